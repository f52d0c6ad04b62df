'use strict';
// Functions that all parts of the page use. Names and values come from runs and are not trusted: they are inserted only
// through textContent or escaped by plain().

const data = JSON.parse(document.getElementById('data').textContent);
const state = { metric: data.metrics[0] ?? null, brushed: null }; // brushed: the runs that are selected in the parallel coordinates
const parameters = data.hyperparameters.filter(parameter => parameter.key !== data.seed);
const seed = data.hyperparameters.find(parameter => parameter.key === data.seed) ?? null;

const PALETTE = ['#5387dd', '#e57439', '#479a5f', '#7d54b2', '#da4c4c', '#edb732', '#229487', '#e87b9f', '#87ceeb', '#a1887f'];
const SCALE = [[0, '#3b1c7a'], [0.35, '#9b2f8b'], [0.7, '#e8605b'], [1, '#fdb45c']];
const LOG_SPAN = 30;
const MAX_LEVELS = 12; // a number with more values is drawn as points
const NONE_DISTANCE = 0.12; // of None from the largest number, as a share of the axis
const CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // this button of plotly would upload the chart
  plotlyServerURL: '',
  modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d', 'sendChartToCloud'],
};

const byId = id => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const link = (text, href) => element('a', { href, textContent: text, target: '_blank', rel: 'noopener' });

function runLink(run) {
  const links = data.links[run];
  const href = links.folder ?? Object.values(links)[0];
  return href ? link(data.runs[run], href) : element('span', { textContent: data.runs[run] });
}

function stateNode(name, text = name) {
  const known = ['finished', 'ended early', 'failed', 'killed', 'running', 'lost'].includes(name) ? name : 'unknown';
  return element('span', { className: `state ${known.replace(' ', '-')}`, textContent: text });
}

// Escapes a text, because plotly interprets HTML tags.
const plain = text => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const cut = (text, length = 28) => (text.length > length ? text.slice(0, length - 1) + '…' : text);

function format(number) {
  if (number === null || !Number.isFinite(number)) return '–';
  return String(Number(number.toPrecision(4)));
}

function duration(seconds) {
  if (seconds < 100) return `${Number(seconds.toPrecision(3))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const sum = numbers => numbers.reduce((total, number) => total + number, 0);
const mean = numbers => sum(numbers) / numbers.length;

// One number has no standard deviation.
function deviation(numbers) {
  if (numbers.length < 2) return null;
  const middle = mean(numbers);
  return Math.sqrt(sum(numbers.map(number => (number - middle) ** 2)) / (numbers.length - 1));
}

const plusMinus = (spread, what) => (spread === null ? `no standard deviation ${what}` : `± ${format(spread)} ${what}`);

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

const runsInStates = names => data.runs.map((_, run) => run).filter(run => names.includes(data.states[run]));
const endedEarly = runsInStates(['ended early']);
const counted = runsInStates(data.counted); // the runs in charts, means and importance
const measured = metric => counted.filter(run => data.values[metric][run] !== null);

// The better direction of a metric; it is known only for the metric of the sweep.
const goalOf = metric => (metric === data.metric ? data.goal : null);

function bestRun(metric, goal) {
  const values = data.values[metric];
  const better = goal === 'maximize' ? (a, b) => values[a] > values[b] : (a, b) => values[a] < values[b];
  const candidates = runsInStates(['finished', 'ended early']).filter(run => values[run] !== null);
  return candidates.reduce((best, run) => (best === null || better(run, best) ? run : best), null);
}

const isContinuous = parameter => parameter.numbers !== null && parameter.levels.length > MAX_LEVELS;

// The places of the runs on a continuous axis: their numbers, and beyond the largest one a place for None.
function numberPlaces(parameter, runs) {
  const there = runs.map(run => parameter.numbers[run]).filter(number => number !== null);
  const [low, high] = there.length ? [Math.min(...there), Math.max(...there)] : [1, 1];
  const beyond = parameter.log ? high * Math.max(high / low, 2) ** NONE_DISTANCE : high + NONE_DISTANCE * (high - low || 1);
  return { low, high, none: there.length < runs.length ? beyond : null, of: run => parameter.numbers[run] ?? beyond };
}

// The ticks [place, ...] in rising order without those that are too close to the next one.
function spaced(ticks, distance) {
  const kept = [];
  for (const tick of [...ticks].reverse()) if (!kept.length || kept[0][0] - tick[0] >= distance) kept.unshift(tick);
  return kept;
}

// The name of a config key: its label, or the whole key where the page has no label for it.
const labelOf = key => data.hyperparameters.find(parameter => parameter.key === key)?.label ?? key;

const levelOf = (parameter, run) => parameter.levels[parameter.at[run]];

// The most important hyperparameter of a metric, except the seed.
function mostImportant(metric) {
  const row = (data.relations[metric] ?? []).find(row => row.key !== data.seed);
  return row ? row.key : null;
}

function layout(changes = {}) {
  const axis = { gridcolor: '#eceff3', zeroline: false, linecolor: '#cfd4dc', ticks: '', exponentformat: 'e', automargin: true };
  return {
    margin: { l: 64, r: 16, t: 36, b: 44 }, // the toolbar is in the top margin
    font: { family: '"Source Sans Pro", system-ui, "Segoe UI", Arial, sans-serif', size: 12, color: '#1a1d24' },
    paper_bgcolor: '#fff',
    plot_bgcolor: '#fff',
    hovermode: 'closest',
    hoverlabel: { align: 'left', bgcolor: '#fff', bordercolor: '#9aa1ad', font: { color: '#1a1d24', size: 12 }, namelength: -1 },
    legend: { orientation: 'h', y: -0.22, yanchor: 'top', font: { size: 11 } },
    ...changes,
    xaxis: { ...axis, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}
