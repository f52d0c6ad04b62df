// The colors of points: a palette for categories, a continuous scale for numbers.

const MAX_COLORS = PALETTE.length;
const GREY = '#b3bac5';

// How the points are colored: function of a point to a color, or to a number on the shared color axis.
function colouringOf(colour, points) {
  if (!colour) return { traceOf: () => '', marker: () => ({ color: PALETTE[0] }), legend: [], layout: {} };
  return colour.numeric ? numberColouring(colour, points) : categoryColouring(colour, points);
}

function numberColouring(colour, points) {
  const bend = colour.log ? Math.log10 : number => number;
  const numbers = there(points.map(colour.number));
  const range = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 1];
  const ticks = roundNumbers(range, colour.log).filter(number => number >= range[0] && number <= range[1]);
  const shown = ticks.length > 1 ? ticks : range;
  const bar = { title: { text: plain(colour.label), side: 'right' }, thickness: 14, outlinewidth: 0, tickvals: shown.map(bend),
    ticktext: shown.map(large) };
  const [low, high] = range.map(bend);
  const marker = members => (colour.number(members[0]) === null ? { color: GREY }
    : { color: members.map(point => bend(colour.number(point))), coloraxis: 'coloraxis' });
  return { traceOf: point => (colour.number(point) === null ? 'none' : ''), marker, legend: [],
    layout: { coloraxis: { colorscale: SCALE, cmin: low, cmax: high > low ? high : low + 1, colorbar: bar } } };
}

function categoryColouring(colour, points) {
  const levels = levelsOf(colour, points);
  const named = levels.length > MAX_COLORS ? [...levels].sort((a, b) => b.members.length - a.members.length).slice(0, MAX_COLORS - 1) : levels;
  const kept = levels.filter(level => named.includes(level)).map(({ level }) => level);
  const others = levels.length - kept.length;
  const colorOf = name => (kept.includes(name) ? PALETTE[kept.indexOf(name)] : GREY);
  const traceOf = point => (kept.includes(colour.text(point)) ? colour.text(point) : `${others} others`);
  const names = [...kept, ...(others ? [`${others} others`] : [])];
  const legend = names.map(name => ({ type: 'scatter', mode: 'markers', x: [null], y: [null], name: plain(cut(name)),
    marker: { color: colorOf(name), size: 9 }, showlegend: true, hoverinfo: 'skip' }));
  return { traceOf, marker: members => ({ color: colorOf(traceOf(members[0])) }), legend,
    layout: { showlegend: true, legend: { title: { text: plain(colour.label) }, orientation: 'v', x: 1.01, y: 1, yanchor: 'top',
      itemclick: false, itemdoubleclick: false } } };
}
