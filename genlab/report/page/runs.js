// The runs of the report, and what is shown of them.

const state = { metric: data.metrics[0] ?? null, brushed: null }; // brushed: the runs that are selected in the parallel coordinates
const parameters = data.hyperparameters.filter(parameter => parameter.key !== data.seed);
const seed = data.hyperparameters.find(parameter => parameter.key === data.seed) ?? null;

function runLink(run) {
  const links = data.links[run];
  const href = links.folder ?? Object.values(links)[0];
  return href ? link(data.runs[run], href) : element('span', { textContent: data.runs[run] });
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

// The name of a config key: its label, or the whole key where the page has no label for it.
const labelOf = key => data.hyperparameters.find(parameter => parameter.key === key)?.label ?? key;

const levelOf = (parameter, run) => parameter.levels[parameter.at[run]];

// The most important hyperparameter of a metric, except the seed.
function mostImportant(metric) {
  const row = (data.relations[metric] ?? []).find(row => row.key !== data.seed);
  return row ? row.key : null;
}
