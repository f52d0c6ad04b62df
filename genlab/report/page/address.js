// What the user chooses is kept in the address, after the #, so that a bookmark or a copied link shows it again.

const choices = new URLSearchParams(location.hash.slice(1));

function remember(name, ...values) {
  choices.delete(name);
  for (const value of values.filter(value => value !== '')) choices.append(name, value);
  history.replaceState(null, '', `#${choices}`);
}

// Gives a select, a checkbox or a text field the remembered value, and remembers what the user chooses there.
function remembered(control) {
  const kept = choices.get(control.id);
  const isBox = control.type === 'checkbox';
  if (isBox) control.checked = kept === 'on';
  else if (kept !== null && (!control.options || [...control.options].some(option => option.value === kept))) control.value = kept;
  control.addEventListener('input', () => remember(control.id, isBox ? (control.checked ? 'on' : '') : control.value));
  return control;
}

addEventListener('hashchange', () => location.reload());
