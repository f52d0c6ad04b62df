// The Pareto front: the points for which no other one is at least as good in x and y and better in one of them.

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
