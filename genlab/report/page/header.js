// The header: numbers of runs by state, metric, best run, training time.

function drawHeader() {
  byId('made').textContent = `report created ${data.made}`;
  const states = [...groupBy(data.states, name => name)].map(([name, all]) => stateNode(name, `${all.length} ${name}`));
  const facts = [fact('runs', ...states)];
  if (state.metric !== null) facts.push(fact('metric', metricSelector()), ...bestFacts());
  facts.push(fact('total training time', duration(sum(data.seconds.filter(seconds => seconds !== null)))));
  if (counted.length === 0) facts.push(fact('charts', 'none, because no run has finished'));
  else if (state.metric !== null && measured(state.metric).length === 0) {
    facts.push(fact('charts', `none, because no finished run has a finite value of ${state.metric}`));
  } else if (!charted()) facts.push(fact('charts', 'none, because the finished runs differ only in their seeds'));
  if (endedEarly.length > 0 && counted.length > 0 && !data.counted.includes('ended early')) {
    facts.push(fact('left out of charts and importance', stateNode('ended early', `${endedEarly.length} ended early`),
      element('small', { textContent: 'sweep.py report --include-early counts them' })));
  }
  byId('facts').replaceChildren(...facts);
  for (const node of document.querySelectorAll('.of-metric')) node.textContent = state.metric ?? '';
}

function fact(name, ...content) {
  return element('div', { className: 'fact' }, element('span', { textContent: name }), element('div', {}, ...content));
}

function metricSelector() {
  if (data.metrics.length === 1) return element('b', { textContent: state.metric });
  const options = data.metrics.map(name => element('option', { value: name, textContent: name }));
  const selector = remembered(element('select', { id: 'metric' }, ...options));
  selector.value = state.metric;
  selector.addEventListener('change', () => chooseMetric(selector.value));
  return selector;
}

function bestFacts() {
  const goal = goalOf(state.metric);
  const shown = goal
    ? [[`best run (${goal})`, goal]]
    : [['lowest', 'minimize'], ['highest', 'maximize']];
  return shown.flatMap(([name, direction]) => {
    const run = bestRun(state.metric, direction);
    if (run === null) return [];
    const early = data.states[run] === 'ended early' ? [stateNode('ended early')] : [];
    return [fact(name, element('b', { textContent: format(data.values[state.metric][run]) }), runLink(run), ...early)];
  });
}
