// One picture of all selected runs side by side, such as their samples.

const PICTURES_AT_ONCE = 48;
const media = { count: PICTURES_AT_ONCE };

function setUpMedia() {
  const names = Object.keys(data.media);
  byId('media').hidden = !names.length;
  if (!names.length) return;
  const options = list => list.map(([value, textContent]) => element('option', { value, textContent }));
  byId('media-name').append(...options(names.map(name => [name, name])));
  if (names.includes('samples')) byId('media-name').value = 'samples';
  byId('media-group').append(...options([['', 'nothing'], ...runGroups.map(({ name, label }) => [name, label])]));
  byId('media-metric').append(...options([['', 'none'], ...metricQuantities.map(({ name }) => [name, name])]));
  byId('media-metric').value = metricQuantities.find(metric => metric.shown)?.name ?? '';
  for (const id of ['media-name', 'media-group', 'media-metric', 'media-seeds']) remembered(byId(id)).addEventListener('change', drawMedia);
  byId('media-more').addEventListener('click', () => { media.count += PICTURES_AT_ONCE; drawMedia(); });
  onSelection(() => { media.count = PICTURES_AT_ONCE; drawMedia(); });
}

function drawMedia() {
  const links = data.media[byId('media-name').value];
  const chosen = byId('media-seeds').checked ? selectedRuns() : selection.configurations.map(index => firstWith(links, index));
  const there = chosen.filter(run => links[run]), without = chosen.filter(run => !links[run]);
  const group = runGroups.find(({ name }) => name === byId('media-group').value);
  const ordered = group ? [...there].sort((a, b) => group.at[a] - group.at[b]) : there;
  const shown = ordered.slice(0, media.count);
  const parts = group ? [...groupBy(shown, run => group.levels[group.at[run]])] : [['', shown]];
  byId('media-pictures').replaceChildren(...parts.flatMap(([title, runs]) => [
    ...(group ? [element('h3', { textContent: `${group.label} ${title}` })] : []),
    element('div', { className: 'pictures' }, ...runs.map(run => picture(run, links[run]))),
  ]));
  byId('media-more').hidden = shown.length === ordered.length;
  byId('media-caption').textContent = `${shown.length} of ${ordered.length} pictures` +
    (without.length ? `. Without this picture: ${without.slice(0, 10).map(runName).join(', ')}${without.length > 10 ? ` and ${without.length - 10} more` : ''}` : '') +
    '. ' + (data.embedded ? '' : 'The pictures are links to the folders of the runs; --embed-pictures puts them into the page.');
}

// The first run of a configuration that has the picture, or else its first run.
function firstWith(links, index) {
  const { runs } = data.configurations[index];
  return runs.find(run => links[run]) ?? runs[0];
}

function picture(run, source) {
  const { configuration, seed } = data.runs[run];
  const metric = metricQuantities.find(({ name }) => name === byId('media-metric').value);
  const values = [`${configuration + 1} ${data.configurations[configuration].name}`, ...(seed === null ? [] : [`seed ${seed}`]),
    ...(metric ? [`${metric.name} ${metric.text({ configuration, run })}`] : [])];
  const image = element('img', { src: source, alt: `${byId('media-name').value} of ${runName(run)}`, loading: 'lazy' });
  const large = element('a', { href: source, target: '_blank', rel: 'noopener', title: runName(run) }, image);
  return element('figure', {}, large, element('figcaption', { textContent: values.join(', ') }));
}
