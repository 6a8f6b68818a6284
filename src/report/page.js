// The page: sections in order, one figure alone for pictures, and following a run.

const sections = [
  ['training', 'Training', () => trainingFigures()],
  ['routers', 'Routers', () => routerFigures()],
  ['budgets', 'Perplexity and budget', () => budgetFigures()],
  ['models', 'Models beside each other', () => modelFigures()],
  ['compute', 'Where compute goes', () => data.studies.map(studyMapFigure)],
  [
    'sequences', 'Token by token',
    () => data.studies.flatMap((study, i) => [routesFigure(study, i), textFigure(study, i)])
  ],
  ['about', 'Runs and files', () => [...data.runs.map(runFigure), filesFigure()]],
];

function subject() {
  const names = data.runs.map(runLabel).join(', ');
  const heldOut = data.runs.flatMap(
      (run) => logOf(run)
                   .filter((line) => known(heldOutLoss(line)))
                   .slice(-1)
                   .map(
                       (line) => `${runLabel(run)} stands at step ${line.step} with held-out loss ${
                           short(heldOutLoss(line))} nats`));
  return [names || 'Results', ...heldOut].join('. ');
}

function build() {
  const main = document.getElementById('main'), links = [];
  document.getElementById('subject').textContent = subject();
  if (data.runs.length > 0) document.title = `Duo report: ${data.runs.map(runLabel).join(', ')}`;
  for (const note of data.notes) main.append(h('p', {class: 'problem'}, note));
  for (const [id, title, make] of sections) {
    const list = make().filter(Boolean);
    if (list.length === 0) continue;
    links.push(h('li', {}, h('a', {href: `#${id}`}, title)));
    main.append(h(
        'section', {id, 'aria-labelledby': `${id}-heading`}, h('h2', {id: `${id}-heading`}, title),
        h('div', {class: 'grid'}, list.map((fig) => fig.root))));
    for (const fig of list)
      if (fig.start) fig.start();
  }
  if (links.length === 0) main.append(h('p', {}, 'There is nothing to show yet.'));
  main.append(machineNote());
  document.getElementById('contents').append(h('ul', {}, links));
}

/* ---------------------------------------------------------------- redrawing */

const redrawAll = () => {
  for (const fig of figures)
    if (fig.root.isConnected) fig.redraw();
};
let resized = 0;
dark.addEventListener('change', redrawAll);
let lastWidth = window.innerWidth;
window.addEventListener('resize', () => {
  if (window.innerWidth === lastWidth) return;  // a phone's address bar comes and goes
  lastWidth = window.innerWidth;
  clearTimeout(resized);
  resized = setTimeout(redrawAll, 150);
});

/* ---------------------------------------------------------------- one figure alone */

// #figure=NAME shows that figure only; #figures makes a list of all with their heights.
function alone(fig) {
  document.documentElement.classList.add('solo');
  for (const node of document.querySelectorAll('.is-solo, .has-solo'))
    node.classList.remove('is-solo', 'has-solo');
  fig.root.classList.add('is-solo');
  for (let node = fig.root.parentElement; node !== document.body; node = node.parentElement)
    node.classList.add('has-solo');
  for (const node of fig.root.querySelectorAll('details')) node.open = true;
  if (fig.chart) fig.chart.resize();
  fig.redraw();
}

function answerFragment() {
  const wanted = /^#figure=([a-z0-9-]+)$/.exec(location.hash);
  const fig = wanted && figures.find((one) => one.id === wanted[1]);
  if (fig) alone(fig);
  if (location.hash !== '#figures') return;
  const list = figures.map((one) => {
    alone(one);
    return `${one.id} ${Math.ceil(document.body.getBoundingClientRect().height)};`;
  });
  document.head.append(h('meta', {name: 'figures', content: list.join('')}));
}

/* ---------------------------------------------------------------- following */

// What was seen before the page loaded itself anew is seen again, in the last page of a run too.
function restorePlace() {
  if (kept.get('loading') !== 'yes') return;
  kept.set('loading', 'no');
  const open = kept.get('open') || [];
  [...document.querySelectorAll('details')].forEach((node, i) => {
    if (known(open[i])) node.open = open[i] === 1;
  });
  const focus = kept.get('focus') && document.querySelector(kept.get('focus'));
  if (focus) focus.focus({preventScroll: true});
  window.scrollTo(0, kept.get('scroll') || 0);
}

function follow() {
  if (!data.reload || location.hash.startsWith('#figure')) return;
  const bar = document.getElementById('following');
  const box = h('input', {
    type: 'checkbox',
    checked: kept.get('paused') !== 'yes',
    onchange: () => kept.set('paused', box.checked ? 'no' : 'yes')
  });
  bar.append(
      h('label', {}, box,
        ` follow the run: this page loads itself anew every ${plural(data.reload, 'second')}`));
  bar.hidden = false;
  setInterval(() => {
    if (!box.checked || document.hidden || document.activeElement.tagName === 'SELECT') return;
    kept.set('scroll', window.scrollY);
    kept.set('open', [...document.querySelectorAll('details')].map((node) => (node.open ? 1 : 0)));
    const figureOf = document.activeElement.closest('figure');
    kept.set('focus', figureOf ? `#${figureOf.id} [tabindex]` : '');
    kept.set('loading', 'yes');
    location.reload();
  }, 1000 * data.reload);
}

if ('scrollRestoration' in history) history.scrollRestoration = data.reload ? 'manual' : 'auto';
build();
answerFragment();
restorePlace();
follow();
window.addEventListener('hashchange', answerFragment);
