// The table of runs. A click on a column's head sorts it; it is filtered by words, state and the parallel coordinates.

const MAX_PICTURES = 8;
const GOOD_STATES = ['finished', 'ended early', 'running', 'pending', 'preempting'];
const table = { columns: [], rows: [], sorted: null, descending: false };

function setUpTable() {
  const number = (name, values) => ({ name, numeric: true, key: run => values[run], text: run => format(values[run]) });
  const metrics = Object.entries(data.values).map(([name, values]) => ({ ...number(name, values),
    text: run => (data.diverged[run].includes(name) ? 'not finite' : format(values[run])) }));
  const hasFiles = data.pictures.some(all => all.length) || data.links.some(links => Object.keys(links).length > 1);
  table.columns = [
    { name: 'run', key: run => data.runs[run], text: run => data.runs[run], node: runLink },
    { name: 'state', key: run => data.states[run], text: run => data.states[run], node: run => stateNode(data.states[run]) },
    ...data.hyperparameters.map(parameter => ({ name: parameter.label, title: parameter.key, numeric: parameter.numbers !== null,
      key: run => parameter.at[run], text: run => levelOf(parameter, run) })),
    ...metrics.slice(0, 1),
    ...(hasFiles ? [{ name: 'pictures and files', key: run => data.pictures[run].length, text: () => '', node: fileLinks }] : []),
    { ...number('time', data.seconds), text: run => (data.seconds[run] === null ? '–' : duration(data.seconds[run])) },
    ...metrics.slice(1),
  ];
  byId('runs').append(element('thead', {}, element('tr', {}, ...table.columns.map(headCell))), element('tbody'));
  const best = data.metric === null ? null : bestRun(data.metric, data.goal);
  table.rows = data.runs.map((_, run) => tableRow(run, run === best));
  setUpFilters();
  const first = table.columns.findIndex(column => column.name === data.metric);
  if (first >= 0) sortTable(first, data.goal === 'maximize');
  else byId('runs').tBodies[0].append(...table.rows.map(row => row.node));
  filterTable();
}

function headCell(column, index) {
  const button = element('button', { type: 'button', textContent: column.name, title: column.title ?? column.name });
  button.addEventListener('click', () => sortTable(index, table.sorted === index && !table.descending));
  return element('th', { className: column.numeric ? 'numeric' : '' }, button);
}

function tableRow(run, isBest) {
  const cells = table.columns.map(column => {
    const cell = element('td', { className: column.numeric ? 'numeric' : '' });
    if (column.node) cell.append(column.node(run));
    else cell.textContent = column.text(run);
    cell.title = column.text(run);
    return cell;
  });
  const words = table.columns.map(column => `${column.text(run)} ${column.name}=${column.text(run)}`);
  const node = element('tr', {}, ...cells);
  node.classList.toggle('best', isBest);
  return { run, node, words: [...words, data.errors[run] ?? ''].join(' ').toLowerCase() };
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
  const last = href.split(/[?#]/)[0].split('/').at(-1).replace(/\.\w+$/, '');
  try { return decodeURIComponent(last); } catch { return last; }
}

function showThumbnail(href, event) {
  const image = byId('thumbnail');
  image.src = href;
  image.hidden = false;
  image.style.left = `${Math.max(8, Math.min(event.clientX + 16, innerWidth - 360))}px`;
  image.style.top = `${Math.max(8, event.clientY > innerHeight / 2 ? event.clientY - 356 : event.clientY + 16)}px`;
}

// Sorts by number or by text; missing values are last in both directions.
function sortTable(index, descending) {
  Object.assign(table, { sorted: index, descending });
  const { key } = table.columns[index];
  const sign = descending ? -1 : 1;
  const missing = value => value === null || value === undefined;
  table.rows.sort((a, b) => {
    const [left, right] = [key(a.run), key(b.run)];
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    return sign * (typeof left === 'string' ? left.localeCompare(right, 'en', { numeric: true }) : left - right);
  });
  byId('runs').tBodies[0].append(...table.rows.map(row => row.node));
  [...byId('runs').tHead.rows[0].cells].forEach((cell, i) => {
    if (i === index) cell.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    else cell.removeAttribute('aria-sort');
  });
}

function setUpFilters() {
  const states = [...groupBy(data.states, name => name)].map(([name, all]) => [name, `${name} (${all.length})`]);
  const options = [['', `all states (${data.runs.length})`], ...states];
  byId('table-state').append(...options.map(([value, text]) => element('option', { value, textContent: text })));
  byId('table-state').addEventListener('change', filterTable);
  byId('table-filter').addEventListener('input', filterTable);
}

function filterTable() {
  const words = byId('table-filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = byId('table-state').value;
  let count = 0;
  for (const { run, node, words: own } of table.rows) {
    const shown = (!wanted || data.states[run] === wanted) && (!state.brushed || state.brushed.has(run))
      && words.every(word => own.includes(word));
    node.hidden = !shown;
    count += shown;
  }
  byId('table-count').textContent = `${count} of ${data.runs.length} runs`;
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
