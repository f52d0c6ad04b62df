// The table of configurations.

function setUpTable() {
  const columns = [
    { name: 'configuration', key: index => index, text: index => data.configurations[index].name },
  ];
  fillTable(byId('configurations'), columns, data.configurations.map((_, index) => index), 'configuration', false);
  remembered(byId('table-filter')).addEventListener('input', filterTable);
}

function filterTable() {
  const { items, problems } = filterRows(byId('table-filter').value);
  byId('table-count').textContent = [`${items.length} of ${data.configurations.length} configurations`, ...problems].join('; ');
  select([...items].sort((a, b) => a - b));
}
