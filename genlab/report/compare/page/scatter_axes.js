// The axes of the scatter chart. Panels whose values compare have the same ones.

// The x-axis of numbers: the places of points, and its layout.
function numberAxisOfX(chart, points) {
  const numbers = points.map(point => point.x);
  const within = numberPlaces({ numbers, log: chart.logX }, points.map((_, i) => i));
  const ends = chart.x.spread ? endsOf(chart.x, numbers, points).filter(number => !chart.logX || number > 0) : [];
  const places = { ...within, low: Math.min(within.low, ...ends), high: Math.max(within.high, ...ends) };
  const levels = [...new Set(there(numbers))].sort((a, b) => a - b);
  const isFew = chart.x.kind === 'key' && levels.length <= MAX_LEVELS;
  const ticks = (isFew ? levels : roundNumbers([places.low, places.high], chart.logX)).map(number => [number, large(number)]);
  if (places.none !== null) ticks.push([places.none, 'none']);
  const layout = numberAxisLayout({ label: titleOf(chart.x), log: chart.logX }, places, ticks);
  return { place: point => point.x ?? places.none, layout };
}

// The ends of the points' bars, with the points themselves.
const endsOf = (quantity, numbers, points) =>
  points.flatMap((point, i) => [-1, 0, 1].map(sign => numbers[i] + sign * (quantity.spread?.(point) ?? 0)));

const titleOf = quantity => [quantity.kind === 'metric' ? quantity.name : quantity.label, quantity.unit].filter(Boolean).join(' ')
  + (ARROWS[quantity.better] ?? '');

// Small multiples: panels of one group of comparable values have the same y-axis.
function scatterLayout(chart, panels, colouring, rows) {
  const columns = Math.min(PANELS_IN_ROW, Math.max(1, panels.length));
  const gap = { x: columns > 1 ? 0.07 : 0, y: rows > 1 ? 0.34 / rows : 0 };
  const domain = (at, count, space) => {
    const size = (1 - space * (count - 1)) / count;
    return [at * (size + space), at * (size + space) + size];
  };
  const made = layout({ margin: { l: 70, r: 20, t: panels.some(panel => panel.title) ? 62 : 36, b: 56 }, ...colouring.layout,
    annotations: [], autosize: true, height: rows > 1 ? 110 + 310 * rows : 500 });
  const base = { x: made.xaxis, y: made.yaxis };
  panels.forEach((panel, i) => {
    const name = i ? i + 1 : '';
    const [left, top] = [domain(i % columns, columns, gap.x), domain(rows - 1 - Math.floor(i / columns), rows, gap.y)];
    made[`xaxis${name}`] = { ...base.x, domain: left, anchor: `y${name}`, ...(panel.x?.layout ?? categoryAxis(chart, panel)) };
    made[`yaxis${name}`] = { ...base.y, domain: top, anchor: `x${name}`, ...panel.y,
      title: i % columns === 0 ? { text: plain(titleOf(chart.y)) } : undefined };
    if (panel.title) {
      made.annotations.push({ text: plain(cut(panel.title, 60)), x: left[0], y: top[1], xref: 'paper', yref: 'paper', xanchor: 'left',
        yanchor: 'bottom', showarrow: false, font: { size: 12.5 } });
    }
  });
  return made;
}

function categoryAxis(chart, panel) {
  const levels = levelsOf(chart.x, panel.points).map(({ level }) => plain(cut(level, 20)));
  return { title: { text: plain(chart.x.label) }, tickvals: levels.map((_, i) => i), ticktext: levels, range: [-0.6, levels.length - 0.4] };
}

function yAxis(chart, points) {
  const ends = endsOf(chart.y, points.map(point => point.y), points);
  const inside = [...(chart.x.numeric ? [] : [0]), ...ends].filter(number => !chart.logY || number > 0);
  const range = [Math.min(...inside), Math.max(...inside)];
  const [low, high] = chart.logY ? range.map(Math.log10) : range;
  const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
  const ticks = chart.logY ? roundNumbers(range, true) : null;
  return { type: chart.logY ? 'log' : 'linear', range: [low - (low || chart.x.numeric ? room : 0), high + room],
    ...(ticks && { tickvals: ticks, ticktext: ticks.map(large) }) };
}
