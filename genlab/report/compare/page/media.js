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
  for (const id of ['media-name', 'media-group', 'media-metric', 'media-order', 'media-seeds']) remembered(byId(id)).addEventListener('change', drawMedia);
  byId('media-more').addEventListener('click', () => { media.count += PICTURES_AT_ONCE; drawMedia(); });
  table.node.tHead.addEventListener('click', drawMedia); // which sorts the table
  onSelection(() => { media.count = PICTURES_AT_ONCE; drawMedia(); });
}

function drawMedia() {
  const links = data.media[byId('media-name').value];
  const configurations = table.rows.filter(row => !row.node.hidden).map(row => row.item);
  const chosen = configurations.flatMap(index => (byId('media-seeds').checked ? data.configurations[index].runs : [firstWith(links, index)]));
  const found = chosen.filter(run => links[run]), without = chosen.filter(run => !links[run]);
  const group = runGroups.find(({ name }) => name === byId('media-group').value);
  const metric = byId('media-order').value ? mediaMetric() : null;
  const sorted = metric ? sortedBy(metric, found) : found;
  const ordered = group ? [...sorted].sort((a, b) => group.at[a] - group.at[b]) : sorted;
  const shown = ordered.slice(0, media.count);
  const parts = group ? [...groupBy(shown, run => group.levels[group.at[run]])] : [['', shown]];
  byId('media-pictures').replaceChildren(...parts.flatMap(([title, runs]) => [
    ...(group ? [element('h3', { textContent: `${group.label} ${title}` })] : []),
    element('div', { className: 'pictures' }, ...runs.map(run => picture(run, links[run]))),
  ]));
  byId('media-more').hidden = shown.length === ordered.length;
  byId('media-caption').textContent = `${shown.length} of ${ordered.length} pictures` +
    (without.length ? `. Without this picture: ${without.slice(0, 10).map(runName).join(', ')}${without.length > 10 ? ` and ${without.length - 10} more` : ''}` : '') +
    '. ' + (metric ? orderText(metric, found) : '') + (data.embedded ? '' : 'The pictures are links to the folders of the runs; --embed-pictures puts them into the page.');
}

// The first run of a configuration that has the picture, or else its first run.
function firstWith(links, index) {
  const { runs } = data.configurations[index];
  return runs.find(run => links[run]) ?? runs[0];
}

const mediaMetric = () => metricQuantities.find(({ name }) => name === byId('media-metric').value) ?? null;

// The runs by a metric, the better values first, in groups of those that compare; runs without a value are last.
function sortedBy(metric, runs) {
  const sign = metric.better === 'higher' ? -1 : 1;
  const key = point => [metric.number(point) === null, metric.group(point), sign * metric.number(point)];
  const keys = new Map(runs.map(run => [run, key(runPoint(run))]));
  return [...runs].sort((a, b) => keys.get(a).map((part, i) => part - keys.get(b)[i]).find(Boolean) ?? 0);
}

const runPoint = run => ({ configuration: data.runs[run].configuration, run });

function orderText(metric, runs) {
  const groups = new Set(there(runs.map(run => metric.group(runPoint(run))))).size;
  return `${metric.better === 'higher' ? 'Higher' : 'Lower'} ${metric.name} first` +
    (groups > 1 ? `, in ${groups} groups, one after the other: it compares only between runs of ${metric.scope}. ` : '. ');
}

function picture(run, source) {
  const { configuration, seed } = data.runs[run];
  const metric = mediaMetric();
  const values = [`${configuration + 1} ${data.configurations[configuration].name}`, ...(seed === null ? [] : [`seed ${seed}`]),
    ...(metric ? [`${metric.name} ${metric.text(runPoint(run))}`] : [])];
  const image = element('img', { src: source, alt: `${byId('media-name').value} of ${runName(run)}`, loading: 'lazy' });
  const button = element('button', { type: 'button', title: 'enlarge' }, image);
  button.addEventListener('click', () => showLarge(image));
  return element('figure', {}, button, element('figcaption', {}, values.join(', '), element('br'), runNode(run)));
}

const runNode = run => (data.runs[run].folder ? link(runName(run), data.runs[run].folder) : runName(run));

function showLarge({ src, alt }) {
  const close = element('button', { type: 'button', textContent: 'close' });
  const dialog = byId('media-large');
  close.addEventListener('click', () => dialog.close());
  dialog.onclick = event => { if (event.target === dialog) dialog.close(); };
  dialog.replaceChildren(element('p', {}, alt, close), element('img', { src, alt }));
  dialog.showModal();
}
