// A table of items. A click on a column's head sorts it; words and comparisons such as lr > 0.001 filter it, and columns
// can be hidden. All of this is remembered in the address.
//
// A column has a name, and functions of an item: text(item), key(item) to sort by, number(item) if it can be compared with
// numbers, and node(item) if it shows more than its text; `title` is its whole name, and `hidden` says that it is not
// shown unless asked for.

const OPERATORS = {
  '<': (a, b) => a < b, '<=': (a, b) => a <= b || near(a, b), '>': (a, b) => a > b, '>=': (a, b) => a >= b || near(a, b),
  '=': (a, b) => near(a, b), '!=': (a, b) => !near(a, b),
};
const near = (a, b) => Math.abs(a - b) <= 1e-5 * Math.abs(b); // the page has numbers of six digits
const table = { node: null, columns: [], rows: [], sorted: null, descending: false };

// Fills a table. `first` names the column that sorts it at first; `text` returns further words that the filter finds.
function fillTable(node, columns, items, first, descending, text = () => '') {
  Object.assign(table, { node, columns });
  node.append(element('thead', {}, element('tr', {}, ...columns.map(headCell))), element('tbody'));
  table.rows = items.map(item => tableRow(item, text(item)));
  setUpColumns();
  const wanted = columns.findIndex(column => column.name === (choices.get('sort') ?? first));
  if (wanted >= 0) sortTable(wanted, choices.has('sort') ? choices.get('order') === 'descending' : descending);
  else node.tBodies[0].append(...table.rows.map(row => row.node));
}

function headCell(column, index) {
  const button = element('button', { type: 'button', textContent: column.head ?? column.name, title: column.title ?? column.name });
  button.addEventListener('click', () => {
    sortTable(index, table.sorted === index && !table.descending);
    remember('sort', column.name);
    remember('order', table.descending ? 'descending' : '');
  });
  return element('th', { className: column.numeric ? 'numeric' : '' }, button);
}

function tableRow(item, text) {
  const cells = table.columns.map(column => {
    const cell = element('td', { className: column.numeric ? 'numeric' : '', title: column.text(item) });
    if (column.node) cell.append(column.node(item));
    else cell.textContent = column.text(item);
    return cell;
  });
  const words = table.columns.map(({ name, title, text }) => [text(item), `${name}=${text(item)}`, title ? `${title}=${text(item)}` : ''].join(' '));
  return { item, node: element('tr', {}, ...cells), words: `${[...words, text].join(' ').toLowerCase()} ` };
}

// Sorts by number or by text; missing values are last in both directions.
function sortTable(index, descending) {
  Object.assign(table, { sorted: index, descending });
  const { key } = table.columns[index];
  const sign = descending ? -1 : 1;
  const missing = value => value === null || value === undefined;
  table.rows.sort((a, b) => {
    const [left, right] = [key(a.item), key(b.item)];
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    return sign * (typeof left === 'string' ? left.localeCompare(right, 'en', { numeric: true }) : left - right);
  });
  table.node.tBodies[0].append(...table.rows.map(row => row.node));
  [...table.node.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === index) cell.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    else cell.removeAttribute('aria-sort');
  });
}

// The columns to choose from. A rule of a style sheet hides one, because a thousand rows have many cells.
function setUpColumns() {
  const hides = ({ name, hidden }) => (hidden ? !choices.getAll('show').includes(name) : choices.getAll('hide').includes(name));
  const rules = document.head.appendChild(element('style'));
  const apply = () => {
    const hidden = (column, i) => (hides(column) ? `.data-table tr > :nth-child(${i + 1}) { display: none; }` : '');
    rules.textContent = table.columns.map(hidden).join('');
  };
  byId('columns-list').append(...table.columns.map(column => {
    const box = element('input', { type: 'checkbox', checked: !hides(column) });
    box.addEventListener('change', () => {
      const list = column.hidden ? 'show' : 'hide';
      const others = choices.getAll(list).filter(name => name !== column.name);
      remember(list, ...others, ...(hides(column) === Boolean(column.hidden) ? [column.name] : []));
      apply();
    });
    return element('label', {}, box, ` ${column.name}`);
  }));
  apply();
}

// Shows the rows that pass all conditions of the text, and for which `keeps(item)` holds. Returns the items that are shown,
// and what is wrong with the text.
function filterRows(text, keeps = () => true) {
  const query = text.toLowerCase().replace(/\s*(<=|>=|!=|<|>|=)\s*/g, '$1');
  const conditions = query.split(/\s+/).filter(Boolean).map(condition);
  const shown = table.rows.filter(row => {
    const isShown = keeps(row.item) && conditions.every(holds => holds(row));
    row.node.hidden = !isShown;
    return isShown;
  });
  return { items: shown.map(row => row.item), problems: conditions.flatMap(({ problem }) => problem ?? []) };
}

// Returns a test of a row for a word of the filter: a comparison with a column, or a text that the row contains.
function condition(word) {
  const [, name, operator, wanted] = word.match(/^([^<>=!]+)(<=|>=|!=|<|>|=)(.+)$/) ?? [];
  const text = (wanted ?? '').replace(/,$/, '');
  const number = Number(text || NaN);
  const compares = Number.isFinite(number) || (operator !== undefined && operator !== '=');
  const column = name === undefined ? undefined : columnNamed(name);
  if (compares && column?.number && Number.isFinite(number)) {
    return ({ item }) => column.number(item) !== null && OPERATORS[operator](column.number(item), number);
  }
  if (operator === '=' && column && !column.number) return ({ words }) => words.includes(`${column.name.toLowerCase()}=${text} `);
  if (operator === '=' && !column) return ({ words }) => wholeWord(`${name}=${text}`).test(words); // such as seed=1, which only the run's name has
  if (!compares || operator === '=') return ({ words }) => words.includes(word);
  if (operator === '!=' && column) return ({ item }) => column.text(item).toLowerCase() !== text;
  return Object.assign(() => false, { problem: column ? `${word} compares no numbers` : `there is no column ${name}` });
}

const wholeWord = text => new RegExp(`(?<![\\w.])${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w.])`);

// The column with a name, a config key, or a last word of these, such as mse for test/mse.
function columnNamed(name) {
  const names = column => [column.name, column.title ?? column.name].map(text => text.toLowerCase());
  return table.columns.find(column => names(column).includes(name))
    ?? table.columns.find(column => names(column).some(text => text.split(/[./]/).at(-1) === name));
}
