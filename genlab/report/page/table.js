// The table of runs. A click on a column's head sorts it; it is filtered by words, comparisons such as lr > 0.001, state
// and the parallel coordinates. Columns, order and filters are remembered in the address.

const MAX_PICTURES = 8;
const GOOD_STATES = ['finished', 'ended early', 'running', 'pending', 'preempting'];
const OPERATORS = {
  '<': (a, b) => a < b, '<=': (a, b) => a <= b || near(a, b), '>': (a, b) => a > b, '>=': (a, b) => a >= b || near(a, b),
  '=': (a, b) => near(a, b), '!=': (a, b) => !near(a, b),
};
const near = (a, b) => Math.abs(a - b) <= 1e-5 * Math.abs(b); // the page has numbers of six digits
const table = { columns: [], rows: [], sorted: null, descending: false };

function setUpTable() {
  const number = (name, values) => ({ name, numeric: true, number: run => values[run], key: run => values[run],
    text: run => format(values[run]) });
  const metrics = Object.entries(data.values).map(([name, values]) => ({ ...number(name, values),
    text: run => (data.diverged[run].includes(name) ? 'not finite' : format(values[run])) }));
  const hasFiles = data.pictures.some(all => all.length) || data.links.some(links => Object.keys(links).length > 1);
  table.columns = [
    { name: 'run', key: run => data.runs[run], text: run => data.runs[run], node: runLink },
    { name: 'state', key: run => data.states[run], text: run => data.states[run], node: run => stateNode(data.states[run]) },
    ...data.hyperparameters.map(parameter => ({ name: parameter.label, title: parameter.key, numeric: parameter.numbers !== null,
      number: parameter.numbers && (run => parameter.numbers[run]), key: run => parameter.at[run], text: run => levelOf(parameter, run) })),
    ...metrics.slice(0, 1),
    ...(hasFiles ? [{ name: 'pictures and files', key: run => data.pictures[run].length, text: () => '', node: fileLinks }] : []),
    { ...number('time', data.seconds), text: run => (data.seconds[run] === null ? '–' : duration(data.seconds[run])) },
    ...metrics.slice(1),
  ];
  byId('runs').append(element('thead', {}, element('tr', {}, ...table.columns.map(headCell))), element('tbody'));
  const best = data.metric === null ? null : bestRun(data.metric, data.goal);
  table.rows = data.runs.map((_, run) => tableRow(run, run === best));
  setUpFilters();
  setUpColumns();
  const wanted = choices.get('sort') ?? data.metric;
  const first = table.columns.findIndex(column => column.name === wanted);
  if (first >= 0) sortTable(first, choices.has('sort') ? choices.get('order') === 'descending' : data.goal === 'maximize');
  else byId('runs').tBodies[0].append(...table.rows.map(row => row.node));
  filterTable();
}

function headCell(column, index) {
  const button = element('button', { type: 'button', textContent: column.name, title: column.title ?? column.name });
  button.addEventListener('click', () => {
    sortTable(index, table.sorted === index && !table.descending);
    remember('sort', column.name);
    remember('order', table.descending ? 'descending' : '');
  });
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
  remembered(byId('table-state')).addEventListener('change', filterTable);
  remembered(byId('table-filter')).addEventListener('input', filterTable);
}

// The columns to choose from. A rule of a style sheet hides one, because a thousand rows have many cells.
function setUpColumns() {
  const hidden = new Set(choices.getAll('hide'));
  const rules = document.head.appendChild(element('style'));
  const apply = () => {
    rules.textContent = table.columns.map(({ name }, i) =>
      (hidden.has(name) ? `#runs tr > :nth-child(${i + 1}) { display: none; }` : '')).join('');
    remember('hide', ...hidden);
  };
  const boxes = table.columns.map(({ name }) => {
    const box = element('input', { type: 'checkbox', checked: !hidden.has(name) });
    box.addEventListener('change', () => {
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      apply();
    });
    return element('label', {}, box, ` ${name}`);
  });
  byId('columns-list').append(...boxes);
  apply();
}

// Returns a test of a run for a word of the filter: a comparison of a column's numbers, or a text that its row contains.
function condition(word) {
  const [, name, operator, text] = word.match(/^([^<>=!]+)(<=|>=|!=|<|>|=)(.+)$/) ?? [];
  const number = Number((text ?? '').replace(/,$/, '') || NaN);
  const compares = Number.isFinite(number) || (operator !== undefined && operator !== '=');
  if (!compares) return ({ words }) => words.includes(word);
  const column = columnNamed(name);
  if (!column?.number || !Number.isFinite(number)) {
    if (operator === '=') return ({ words }) => words.includes(word); // such as seed=1, which only the run's name has
    if (operator === '!=' && column) return ({ run }) => column.text(run).toLowerCase() !== text;
    return Object.assign(() => false, { problem: column ? `${word} compares no numbers` : `there is no column ${name}` });
  }
  return ({ run }) => column.number(run) !== null && OPERATORS[operator](column.number(run), number);
}

// The column with a name, a config key, or a last word of these, such as mse for test/mse.
function columnNamed(name) {
  const names = column => [column.name, column.title ?? column.name].map(text => text.toLowerCase());
  return table.columns.find(column => names(column).includes(name))
    ?? table.columns.find(column => names(column).some(text => text.split(/[./]/).at(-1) === name));
}

function filterTable() {
  const query = byId('table-filter').value.toLowerCase().replace(/\s*(<=|>=|!=|<|>|=)\s*/g, '$1');
  const conditions = query.split(/\s+/).filter(Boolean).map(condition);
  const wanted = byId('table-state').value;
  let count = 0;
  for (const row of table.rows) {
    const { run, node } = row;
    const shown = (!wanted || data.states[run] === wanted) && (!state.brushed || state.brushed.has(run))
      && conditions.every(holds => holds(row));
    node.hidden = !shown;
    count += shown;
  }
  const problems = conditions.flatMap(({ problem }) => problem ?? []);
  byId('table-count').textContent = [`${count} of ${data.runs.length} runs`, ...problems].join('; ');
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
