// The learning curves of the report, grouped by a hyperparameter.

const runName = run => data.runs[run];
const curveKey = runName;

function setUpCurves() {
  const groups = [...parameters, ...(seed ? [seed] : [])].map(({ key, label }) => element('option', { value: key, textContent: label }));
  byId('curves-group').append(element('option', { value: '', textContent: 'nothing' }), ...groups);
  byId('curves-group').value = mostImportant(state.metric) ?? '';
  setUpCurveControls(firstCurve(Object.keys(data.curves.metrics)), drawCurves);
}

// The curve that is shown first: that of the metric, or of the same metric in validation or training.
function firstCurve(names) {
  const word = (state.metric ?? '').split('/').at(-1);
  return [state.metric, `val/${word}`, `train/${word}`].find(name => names.includes(name)) ?? names[0];
}

function drawCurves() {
  drawCurvesOf(counted, data.hyperparameters.find(parameter => parameter.key === byId('curves-group').value));
}
