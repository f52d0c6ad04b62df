// Importance and correlation of each hyperparameter, as in the parameter importance panel of W&B.

const CORRELATIONS = { correlation: 'Pearson', spearman: 'Spearman' };

function drawImportance() {
  const rows = data.relations[state.metric];
  const noise = rows.find(row => row.key === data.seed)?.importance ?? null;
  const kind = byId('correlation')?.value ?? (choices.get('correlation') in CORRELATIONS ? choices.get('correlation') : 'correlation');
  const heads = ['hyperparameter', 'importance', correlationSelector(kind)];
  const head = element('tr', {}, ...heads.map(content => element('th', {}, content)));
  const left = Object.keys(data.moved).filter(key => !rows.some(row => row.key === key));
  byId('importance-table').replaceChildren(element('thead', {}, head),
    element('tbody', {}, ...rows.map(row => importanceRow(row, noise, kind)), ...left.map(movedRow)));
  byId('importance-reason').textContent = data.reasons[state.metric] ? `No importance: ${data.reasons[state.metric]}.` : '';
  byId('importance-caption').textContent = importanceCaption(measured(state.metric).length, noise, kind);
}

function correlationSelector(kind) {
  const options = Object.entries(CORRELATIONS).map(([value, name]) => element('option', { value, textContent: `${name} correlation` }));
  const selector = remembered(element('select', { id: 'correlation' }, ...options));
  selector.value = kind;
  selector.addEventListener('change', drawImportance);
  return selector;
}

function importanceCaption(count, noise, kind) {
  return 'Importance: a random forest of 100 trees predicts ' + `${state.metric} from the hyperparameters of the ${count} finished ` +
    'runs; the importance is the share of the reduction of variance that its splits on a hyperparameter achieve, and all ' +
    `sum to 1. Correlation: the ${CORRELATIONS[kind]} correlation over the same runs` +
    (kind === 'spearman' ? ', of the ranks, which is 1 or -1 where the metric only rises or only falls' : '') +
    '; a hyperparameter with texts as values has one for each text. Even pure noise gets some importance, and more of it if ' +
    'it has more values. ' + (noise === null ? '' :
      'The importance of the seed estimates this noise floor; hyperparameters that are not more important are pale. ') +
    (data.parameters.length ? 'The parameters of the sweep come first.' : '');
}

function importanceRow(row, noise, kind) {
  const isSeed = row.key === data.seed;
  const name = row.value ? `= ${row.value}` : labelOf(row.key) + (isSeed ? ' (noise floor)' : '');
  const moved = !row.value && data.moved[row.key] ? [' ', element('small', { textContent: `moved with ${labelOf(data.moved[row.key])}` })] : [];
  const node = element('tr', {}, element('td', { title: row.key }, name, ...moved),
    element('td', {}, bar(row.importance, 0, '#7d54b2')),
    element('td', {}, ...(row[kind] === null ? [] : [signedBar(row[kind])])));
  node.classList.toggle('value', row.value !== '');
  node.classList.toggle('noise', isSeed);
  node.classList.toggle('below', !isSeed && noise !== null && row.value === '' && row.importance <= noise);
  return node;
}

// A config key that is left out because it moved together with another one. It may break after a dot.
function movedRow(key) {
  const text = `moved with ${labelOf(data.moved[key])}: the runs cannot tell the two apart`;
  return element('tr', { className: 'moved' }, element('td', { textContent: labelOf(key).replaceAll('.', '.\u200b'), title: key }),
    element('td', { colSpan: 2, textContent: text }));
}

const signedBar = value => bar(value, 0.5, value > 0 ? '#1f9d55' : '#d64545', 0.5);

// A bar and its number. The bar starts at `origin`, a share of the track, and is |value| * `unit` of the track long.
function bar(value, origin, color, unit = 1) {
  const fill = element('div', { className: 'fill' });
  const width = Math.abs(value ?? 0) * unit;
  fill.style.left = `${100 * (value < 0 ? origin - width : origin)}%`;
  fill.style.width = `${100 * width}%`;
  fill.style.background = color;
  const number = element('span', { className: 'number', textContent: value === null ? '–' : value.toFixed(2) });
  return element('div', { className: 'bar' }, element('div', { className: 'track' }, fill), number);
}
