// The configurations that the filter of the table keeps. Each chart registers by onSelection() a function that draws it;
// all of them are called when the selection changes, and once at the start.

const selection = { configurations: data.configurations.map((_, index) => index) };
const drawings = [];

const onSelection = draw => drawings.push(draw);

function select(configurations) {
  selection.configurations = configurations;
  for (const draw of drawings) draw();
}

// The indices of the runs of the selected configurations.
const selectedRuns = () => selection.configurations.flatMap(index => data.configurations[index].runs);
