byId('made').textContent = `created ${data.made}`;
byId('notes').append(...data.notes.map(note => element('li', { textContent: note })));
setUpTable();
setUpScatter();
setUpMedia();
setUpCurves();
filterTable();
