// Whether finished runs differ in a hyperparameter other than the seed.
const charted = () => state.metric !== null && mostImportant(state.metric) !== null && measured(state.metric).length > 0;

function drawMetric() {
  drawHeader();
  if (!charted()) return;
  drawImportance();
  drawGrouped();
  drawParallel();
}

function chooseMetric(metric) {
  state.metric = metric;
  drawMetric();
}

if (data.metrics.includes(choices.get('metric'))) state.metric = choices.get('metric');
setUpTable();
drawFailed();
for (const id of ['importance', 'parallel', 'grouped']) byId(id).hidden = !charted();
byId('curves').hidden = Object.keys(data.curves.metrics).length === 0;
drawMetric();
if (!byId('curves').hidden) {
  setUpCurves();
  drawCurves();
}
