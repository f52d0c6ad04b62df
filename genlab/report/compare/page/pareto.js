// The Pareto front: the points for which no other one is at least as good in x and y and better in one of them.

const MAX_LISTED = 30; // members of a Pareto front

// Returns the members, the best x first; equal points are all members. `better` is lower or higher for x and for y.
function paretoFront(points, better) {
  const [signX, signY] = better.map(direction => (direction === 'lower' ? 1 : -1));
  const sorted = points.filter(({ x, y }) => x !== null && y !== null)
    .sort((a, b) => signX * (a.x - b.x) || signY * (a.y - b.y));
  const front = [];
  for (const point of sorted) {
    const last = front.at(-1);
    if (!last || signY * (point.y - last.y) < 0 || (point.x === last.x && point.y === last.y)) front.push(point);
  }
  return front;
}

// The step line of a front: the best y that is reached when x may get worse.
function frontTrace(front) {
  return { type: 'scatter', mode: 'lines', name: 'Pareto front', x: front.map(({ x }) => x), y: front.map(({ y }) => y),
    line: { color: '#1a1d24', width: 1.5, shape: 'hv' }, hoverinfo: 'skip', showlegend: false };
}

// The Pareto front of each panel, if it is asked for; marks its members in the table and lists them.
function showFronts(chart, panels) {
  const isOn = control('pareto').checked && chart.x.numeric;
  control('pareto').disabled = !chart.x.numeric;
  const better = [['x', chart.x], ['y', chart.y]].map(([name, quantity]) => {
    control(`better-${name}`).closest('label').hidden = !isOn || quantity.better !== null;
    return quantity.better ?? control(`better-${name}`).value;
  });
  const fronts = isOn ? panels.map(panel => paretoFront(panel.points, better)) : panels.map(() => null);
  const members = new Set(fronts.flatMap(front => (front ?? []).map(point => point.configuration)));
  for (const { item, node } of table.rows) node.classList.toggle('front', members.has(item));
  byId('scatter-front').hidden = !isOn;
  if (isOn) listFronts(chart, panels, fronts, better);
  return fronts;
}

function listFronts(chart, panels, fronts, better) {
  const head = `Pareto front: ${better[0]} ${chart.x.name}, ${better[1]} ${chart.y.name}; no other point is at least as good in both and better ` +
    'in one. Its configurations are marked ◆ in the table.';
  const lists = fronts.map((front, i) => {
    const rows = front.slice(0, MAX_LISTED).map(point => {
      const name = point.run === null ? data.configurations[point.configuration].name : data.runs[point.run].name;
      return element('li', { textContent: `${name}: ${chart.x.label} ${valueText(chart.x, point)}, ${chart.y.label} ${valueText(chart.y, point)}` });
    });
    const rest = front.length > rows.length ? [element('li', { textContent: `and ${front.length - rows.length} more` })] : [];
    const title = panels.length > 1 ? [element('b', { textContent: panels[i].title })] : [];
    return element('div', {}, ...title, element('ul', {}, ...rows, ...rest));
  });
  byId('scatter-front').replaceChildren(element('p', { className: 'caption', textContent: head }), ...lists);
}
