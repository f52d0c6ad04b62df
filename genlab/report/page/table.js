// The table of runs, which is also filtered by state and by the parallel coordinates.

const MAX_PICTURES = 8;
const GOOD_STATES = ['finished', 'ended early', 'running', 'pending', 'preempting'];

function setUpTable() {
  const number = (name, values) => ({ name, numeric: true, number: run => values[run], key: run => values[run],
    text: run => format(values[run]) });
  const metrics = Object.entries(data.values).map(([name, values]) => ({ ...number(name, values),
    text: run => (data.diverged[run].includes(name) ? 'not finite' : format(values[run])) }));
  const hasFiles = data.pictures.some(all => all.length) || data.links.some(links => Object.keys(links).length > 1);
  const columns = [
    { name: 'run', key: run => data.runs[run], text: run => data.runs[run], node: runLink },
    { name: 'state', key: run => data.states[run], text: run => data.states[run], node: run => stateNode(data.states[run]) },
    ...data.hyperparameters.map(parameter => ({ name: parameter.label, title: parameter.key, numeric: parameter.numbers !== null,
      number: parameter.numbers && (run => parameter.numbers[run]), key: run => parameter.at[run], text: run => levelOf(parameter, run) })),
    ...metrics.slice(0, 1),
    ...(hasFiles ? [{ name: 'pictures and files', key: run => data.pictures[run].length, text: () => '', node: fileLinks }] : []),
    { ...number('time', data.seconds), text: run => (data.seconds[run] === null ? '–' : duration(data.seconds[run])) },
    ...metrics.slice(1),
  ];
  fillTable(byId('runs'), columns, data.runs.map((_, run) => run), data.metric, data.goal === 'maximize', run => data.errors[run] ?? '');
  const best = data.metric === null ? null : bestRun(data.metric, data.goal);
  for (const { item, node } of table.rows) node.classList.toggle('best', item === best);
  setUpFilters();
  filterTable();
}

function fileLinks(run) {
  const cell = element('span', { className: 'files' });
  const { folder, ...others } = data.links[run];
  for (const href of data.pictures[run].slice(0, MAX_PICTURES)) cell.append(pictureLink(href));
  for (const [name, href] of Object.entries(others)) cell.append(link(name, href));
  return cell;
}

function pictureLink(href) {
  const node = link(pictureName(href), href);
  if (!/^https?:/i.test(href)) { // a picture on a server is loaded only when it is clicked
    node.addEventListener('mouseenter', event => showThumbnail(href, event));
    node.addEventListener('mouseleave', () => { byId('thumbnail').hidden = true; });
  }
  return node;
}

function pictureName(href) {
  const last = href.split(/[?#]/)[0].split('/').at(-1).replace(/\.\w+$/, '')
    .replace(/_\d+_[0-9a-f]{20}$/, ''); // W&B adds a step and a digest
  try { return decodeURIComponent(last); } catch { return last; }
}

function showThumbnail(href, event) {
  const image = byId('thumbnail');
  image.src = href;
  image.hidden = false;
  image.style.left = `${Math.max(8, Math.min(event.clientX + 16, innerWidth - 360))}px`;
  image.style.top = `${Math.max(8, event.clientY > innerHeight / 2 ? event.clientY - 356 : event.clientY + 16)}px`;
}

function setUpFilters() {
  const states = [...groupBy(data.states, name => name)].map(([name, all]) => [name, `${name} (${all.length})`]);
  const options = [['', `all states (${data.runs.length})`], ...states];
  byId('table-state').append(...options.map(([value, text]) => element('option', { value, textContent: text })));
  remembered(byId('table-state')).addEventListener('change', filterTable);
  remembered(byId('table-filter')).addEventListener('input', filterTable);
}

function filterTable() {
  const wanted = byId('table-state').value;
  const keeps = run => (!wanted || data.states[run] === wanted) && (!state.brushed || state.brushed.has(run));
  const { items, problems } = filterRows(byId('table-filter').value, keeps);
  byId('table-count').textContent = [`${items.length} of ${data.runs.length} runs`, ...problems].join('; ');
}

// The runs that did not finish, with their error messages.
function drawFailed() {
  const failed = data.runs.map((_, run) => run).filter(run => !GOOD_STATES.includes(data.states[run]));
  byId('failed').hidden = failed.length === 0;
  byId('failed-runs').append(...failed.map(run => {
    const { folder, ...others } = data.links[run];
    const links = Object.entries(others).flatMap(([name, href]) => [' ', link(name, href)]);
    const head = element('div', {}, stateNode(data.states[run]), ' ', runLink(run), ...links);
    return element('article', {}, head, element('pre', { textContent: data.errors[run] ?? '' }));
  }));
}
