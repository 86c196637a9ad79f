// What a report does beyond being read: tables sort, figures say their values, and that of a running study loads itself
// anew. Without this script it says the same, and refreshes all the same.
'use strict';

const NEAR = 28; // pixels from which a figure says a value; those so near to it that they hide each other, all
const HIDDEN = 6;
const state = {sorted: {}, open: [], lefts: [], refreshes: true, ...history.state}; // outlives a reload

function keep(changes) {
  history.replaceState(Object.assign(state, changes), '');
}

function make(tag, attributes, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Tables. A header's button sorts upwards, then downwards, then as it was.

function sortable(table, number) {
  const body = table.tBodies[0], rows = [...body.rows], headers = [...table.tHead.rows[0].cells];
  const next = {undefined: 'ascending', ascending: 'descending', descending: undefined};

  function compare(a, b, direction) {
    const sign = direction === 'ascending' ? 1 : -1;
    const [x, y] = [a, b].map(cell => cell.dataset.number), [s, t] = [a, b].map(cell => cell.textContent);
    if (x !== undefined && y !== undefined) return sign * (x - y);
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1; // texts below numbers, both ways
    if (!s || !t) return !s - !t;
    return sign * s.localeCompare(t);
  }

  function sort(name, direction) {
    const column = headers.findIndex(header => header.textContent === name);
    if (column < 0) return;
    headers.forEach(header => header.removeAttribute('aria-sort'));
    if (direction) headers[column].setAttribute('aria-sort', direction);
    body.append(...(direction ? rows.toSorted((a, b) => compare(a.cells[column], b.cells[column], direction)) : rows));
    keep({sorted: {...state.sorted, [number]: [name, direction]}});
  }

  for (const header of headers) {
    const button = make('button', {type: 'button', title: 'sort'}, ...header.childNodes);
    button.onclick = () => sort(header.textContent, next[header.getAttribute('aria-sort') ?? undefined]);
    header.append(button);
  }
  if (state.sorted[number]) sort(...state.sorted[number]);
}

// Figures. Their values are listed below them, with their places; one at a time is shown in the figure, by the mouse, a
// finger, or the arrow keys.

function valued(figure) {
  const values = all('.values li', figure), plot = figure.querySelector('.plot');
  if (!values.length) return;
  const label = 'Values of the figure: arrow keys go from one to the next';
  const points = make('div', {class: 'points', role: 'slider', tabindex: 0, 'aria-label': label, 'aria-valuemin': 1,
                              'aria-valuemax': values.length});
  const dot = make('div', {class: 'dot'}), says = make('div', {class: 'says', 'aria-hidden': true});
  let at = 0;
  dot.hidden = says.hidden = true;
  points.append(dot);
  plot.append(points, says);

  const place = i => [values[i].dataset.x * plot.clientWidth, values[i].dataset.y * plot.clientHeight];
  const distances = (x, y) => values.map((_, i) => Math.hypot(place(i)[0] - x, place(i)[1] - y));

  function move() {
    const {left, top, bottom} = dot.getBoundingClientRect(), {offsetWidth: width, offsetHeight: height} = says;
    says.style.left = `${Math.max(8, Math.min(left - width / 2, document.documentElement.clientWidth - width - 8))}px`;
    says.style.top = `${top > height + 16 ? top - height - 8 : bottom + 8}px`;
  }

  function say(i) {
    points.setAttribute('aria-valuenow', i + 1);
    points.setAttribute('aria-valuetext', values[i].textContent);
    at = i;
  }

  function show(i) {
    say(i);
    const [x, y] = place(i), hidden = distances(x, y);
    says.textContent = [i, ...values.keys()].filter((j, n, js) => hidden[j] < HIDDEN && js.indexOf(j) === n)
      .map(j => values[j].textContent).join('\n');
    dot.style.left = `${x}px`;
    dot.style.top = `${y}px`;
    dot.hidden = says.hidden = false;
    move();
  }

  function hide() {
    dot.hidden = says.hidden = true;
  }

  function point(event) {
    const box = points.getBoundingClientRect(), far = distances(event.clientX - box.left, event.clientY - box.top);
    const least = Math.min(...far);
    least < NEAR ? show(far.indexOf(least)) : hide();
  }

  points.onpointermove = points.onpointerdown = point;
  points.onpointerleave = event => event.pointerType === 'mouse' && hide();
  points.onblur = hide;
  points.onfocus = () => points.matches(':focus-visible') && show(at);
  points.onkeydown = event => {
    const last = values.length - 1;
    const by = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -last, End: last}[event.key];
    if (event.key === 'Escape') hide();
    if (!by) return;
    event.preventDefault();
    show(Math.max(0, Math.min(at + by, last)));
    dot.scrollIntoView({block: 'nearest', inline: 'nearest'});
    move();
  };
  addEventListener('scroll', () => says.hidden || move(), {capture: true, passive: true});
  say(0);
}

// The page of a running study. What the reader has sorted, opened, focused and scrolled to stays.

const FOCUSABLE = 'button, summary, [tabindex]'; // not the box, which a finished study's page has not got

function refreshing(section, seconds) {
  const box = make('input', {type: 'checkbox'});
  box.checked = state.refreshes;
  box.onchange = () => keep({refreshes: box.checked});
  section.append(make('p', {}, make('label', {}, box, ` load anew every ${seconds} s`)));
  const due = Date.now() + 1000 * seconds;
  setInterval(() => {
    if (!box.checked || document.hidden || Date.now() < due || all('.says').some(says => !says.hidden)) return;
    keep({top: scrollY, lefts: all('.scroll').map(box => box.scrollLeft), open: all('details').map(box => box.open),
          focused: all(FOCUSABLE).indexOf(document.activeElement)});
    location.reload();
  }, 500);
}

function reachable() { // by the Tab key: only a box that scrolls, unless its figure is reached by its values
  for (const box of all('.scroll')) {
    box.tabIndex = box.scrollWidth > box.clientWidth && !box.querySelector('.points') ? 0 : -1;
  }
}

all('table').forEach(sortable);
all('figure').forEach(valued);
reachable();
addEventListener('resize', reachable);
const section = document.querySelector('[data-refresh]');
if (section) refreshing(section, Number(section.dataset.refresh));
all('details').forEach((box, i) => { box.open = state.open[i] ?? false; });
all('.scroll').forEach((box, i) => { box.scrollLeft = state.lefts[i] ?? 0; });
if (state.focused >= 0) all(FOCUSABLE)[state.focused]?.focus({preventScroll: true});
if (state.top !== undefined) scrollTo(0, state.top);
