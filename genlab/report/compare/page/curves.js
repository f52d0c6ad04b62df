// The learning curves of the selected runs, whose seeds are folded to a mean, grouped by configuration or by a key.

const runName = run => data.runs[run].name;
const curveKey = run => run;

function setUpCurves() {
  const names = Object.keys(data.curves.metrics);
  byId('curves').hidden = !names.length;
  if (!names.length) return;
  const groups = runGroups.map(({ name, label }) => element('option', { value: name, textContent: label }));
  byId('curves-group').append(...groups);
  const shown = metricQuantities.filter(metric => metric.shown).map(({ name }) => name.split('/').at(-1));
  const first = ['val', 'train'].flatMap(split => shown.map(word => `${split}/${word}`)).find(name => names.includes(name));
  setUpCurveControls(first ?? names[0], drawCurves);
  onSelection(drawCurves);
}

function drawCurves() {
  const metric = byId('curves-metric').value;
  const drawn = drawCurvesOf(selectedRuns(), runGroups.find(group => group.name === byId('curves-group').value));
  const { text, groups } = data.curves.scopes[metric];
  const kinds = new Set(drawn.map(run => data.curves.groups[groups][data.runs[run].configuration])).size;
  byId('curves-scope').textContent = kinds < 2 ? '' : `Not all of these curves compare with each other: ${metric} compares only between ` +
    `runs of ${text}. These runs form ${kinds} such groups.`;
}

// By what runs can be grouped: their configuration, their experiment, and each key that varies, with a value for each run.
const runGroups = [
  { ...categories('configuration', data.runs.map(run => `${run.configuration + 1} ${data.configurations[run.configuration].name}`)), firstOnly: true },
  categories('experiment', data.runs.map(run => run.experiment)),
  ...data.keys.map(key => ({ name: key.key, label: key.label, levels: key.levels, at: data.runs.map(run => key.at[run.configuration]),
    numbers: key.numbers && data.runs.map(run => key.numbers[run.configuration]) })),
];

function categories(name, values) {
  const levels = [...new Set(values)];
  return { name, label: name, levels, at: values.map(value => levels.indexOf(value)), numbers: null };
}
