'use strict';
// Functions that all parts of the page use. Names and values come from runs and are not trusted: they are inserted only
// through textContent or escaped by plain().

const data = JSON.parse(document.getElementById('data').textContent);
const PALETTE = ['#5387dd', '#e57439', '#479a5f', '#7d54b2', '#da4c4c', '#edb732', '#229487', '#e87b9f', '#87ceeb', '#a1887f'];
const SCALE = [[0, '#3b1c7a'], [0.35, '#9b2f8b'], [0.7, '#e8605b'], [1, '#fdb45c']];
const LOG_SPAN = 30;
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

function layout(changes = {}) {
  const axis = { gridcolor: '#eceff3', zeroline: false, linecolor: '#cfd4dc', ticks: '', exponentformat: 'e', automargin: true };
  return {
    margin: { l: 64, r: 16, t: 36, b: 44 }, // the toolbar is in the top margin
    font: { family: '"Source Sans Pro", system-ui, "Segoe UI", Arial, sans-serif', size: 12, color: '#1a1d24' },
    paper_bgcolor: '#fff',
    plot_bgcolor: '#fff',
    hovermode: 'closest',
    hoverlabel: { align: 'left', bgcolor: '#fff', bordercolor: '#9aa1ad', font: { color: '#1a1d24', size: 12 }, namelength: -1 },
    legend: { orientation: 'h', yref: 'container', y: 0, yanchor: 'bottom', font: { size: 11 } },
    ...changes,
    xaxis: { ...axis, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}

function band(x, low, high, color = 'rgba(90,100,120,0.13)') {
  return { type: 'scatter', mode: 'lines', x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: 'toself',
    fillcolor: color, line: { width: 0 }, hoverinfo: 'skip', showlegend: false };
}
