// Importance and correlation of each hyperparameter, as in the parameter-importance panel of W&B.

function drawImportance() {
  const rows = data.relations[state.metric];
  const noise = rows.find(row => row.key === data.seed)?.importance ?? null;
  const heads = ['hyperparameter', 'importance', 'correlation'];
  const head = element('tr', {}, ...heads.map(text => element('th', { textContent: text })));
  byId('importance-table').replaceChildren(
    element('thead', {}, head), element('tbody', {}, ...rows.map(row => importanceRow(row, noise))));
  const count = measured(state.metric).length;
  byId('importance-caption').textContent =
    `Importance: share of the variation that a random forest of 100 trees, trained on ${count} finished runs to predict ` +
    `${state.metric}, owes to the hyperparameter; together 1. Correlation: Pearson's, linear, over the same runs; words ` +
    'are told apart one by one. A forest finds a little in noise too, and more where there are many values. ' +
    (noise === null ? '' : 'The seed cannot matter: it is the noise floor, and what is paler is no more important than it.');
}

function importanceRow(row, noise) {
  const parameter = data.hyperparameters.find(parameter => parameter.key === row.key);
  const isSeed = row.key === data.seed;
  const name = row.value ? `= ${row.value}` : parameter.label + (isSeed ? ' (noise floor)' : '');
  const node = element('tr', {}, element('td', { textContent: name, title: row.key }),
    element('td', {}, bar(row.importance, 0, '#7d54b2')),
    element('td', {}, ...(row.correlation === null ? [] : [signedBar(row.correlation)])));
  node.classList.toggle('value', row.value !== '');
  node.classList.toggle('noise', isSeed);
  node.classList.toggle('below', !isSeed && noise !== null && row.value === '' && row.importance <= noise);
  return node;
}

const signedBar = value => bar(value, 0.5, value > 0 ? '#1f9d55' : '#d64545', 0.5);

// A bar from `origin` (a share of the track) over |value| of `unit` of the track, and the number.
function bar(value, origin, color, unit = 1) {
  const fill = element('div', { className: 'fill' });
  const width = Math.abs(value ?? 0) * unit;
  fill.style.left = `${100 * (value < 0 ? origin - width : origin)}%`;
  fill.style.width = `${100 * width}%`;
  fill.style.background = color;
  const number = element('span', { className: 'number', textContent: value === null ? '–' : value.toFixed(2) });
  return element('div', { className: 'bar' }, element('div', { className: 'track' }, fill), number);
}
