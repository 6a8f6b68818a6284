// Grids of layers and positions: shares of modules, and the routes of single tokens.

// Draws a grid into a node. Columns are at least `least` wide, so that a long one scrolls.
// colour(l, c) fills a cell, value(l, c) goes into the document, read(l, c) is said of a cell.
function drawGrid(
    node, {layers, columns, least = 1, colour, value, read, label, xLabel, low, high, merge}) {
  const left = 30, bottom = 30, room = Math.max(node.clientWidth || 320, 220);
  const width = Math.max(room, left + 2 + columns * least), cell = (width - left - 2) / columns;
  const tall = Math.max(7, Math.min(20, 200 / layers)), height = layers * tall;
  const y = (l) => (layers - 1 - l) * tall;
  const svg = h('svg', {
    viewBox: `0 0 ${width} ${height + bottom}`,
    width,
    height: height + bottom,
    tabindex: 0,
    role: 'img',
    'aria-label': `${label}. Arrow keys read the cells.`,
    style: width > room ? `width:${width}px` : null
  });
  for (let l = 0; l < layers; l++) {
    for (let c = 0; c < columns;) {
      let end = c + 1;
      while (merge && end < columns && colour(l, end) === colour(l, c)) end++;
      svg.append(h('rect', {
        x: (left + c * cell).toFixed(2),
        y: y(l).toFixed(2),
        width: ((end - c) * cell + 0.3).toFixed(2),
        height: (tall + 0.3).toFixed(2),
        fill: colour(l, c),
        'data-value': value ? value(l, c) : null,
        'data-layer': l,
        'data-column': c
      }));
      c = end;
    }
    const every = Math.ceil(14 / tall);
    if (l % every === 0)
      svg.append(h('text', {x: left - 6, y: y(l) + tall / 2 + 4, 'text-anchor': 'end'}, String(l)));
  }
  svg.append(
      h('rect', {class: 'frame', x: left, y: 0, width: columns * cell, height}),
      h('text', {x: left, y: height + 14}, String(low)),
      h('text', {x: left + columns * cell, y: height + 14, 'text-anchor': 'end'}, String(high)),
      h('text', {x: left + columns * cell / 2, y: height + 14, 'text-anchor': 'middle'}, xLabel),
      h('text',
        {x: 10, y: height / 2, 'text-anchor': 'middle', transform: `rotate(-90 10 ${height / 2})`},
        'layer'));
  const cursor =
      h('rect', {class: 'cursor', width: Math.max(cell, 3), height: tall, visibility: 'hidden'});
  const readout = h('p', {class: 'readout'});
  svg.append(cursor);
  let at = {l: 0, c: -1};
  const show = (l, c, aloud) => {
    at = {l, c};
    cursor.setAttribute('x', left + c * cell);
    cursor.setAttribute('y', y(l));
    cursor.setAttribute('visibility', 'visible');
    readout.textContent = read(l, c);
    if (aloud) say(read(l, c));
  };
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const c = Math.floor(((event.clientX - box.left) * scale - left) / cell);
    const l = layers - 1 - Math.floor((event.clientY - box.top) * scale / tall);
    if (c >= 0 && c < columns && l >= 0 && l < layers) show(l, c, false);
  });
  svg.addEventListener('keydown', (event) => {
    const [dl, dc] =
        {ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key] ||
        [0, 0];
    if (dl === 0 && dc === 0) return;
    event.preventDefault();
    show(
        Math.max(0, Math.min(layers - 1, at.l + dl)), Math.max(0, Math.min(columns - 1, at.c + dc)),
        true);
  });
  node.replaceChildren(h('div', {class: 'scroll'}, svg), readout);
}

function shareScale(what) {
  const stops =
      [0, 0.25, 0.5, 0.75, 1].map((share) => `${shareColour(share)} ${100 * share}%`).join(',');
  const ramp = h('span', {class: 'ramp'});
  ramp.style.background = `linear-gradient(to right,${stops})`;
  return h('p', {class: 'scale'}, `share of ${what}: 0 %`, ramp, '100 %');
}

// maps() gives [{title, values (layers, columns), columnName(c), low, high}].
function mapFigure(id, title, {maps, caption, wide, xLabel, controls = [], what = () => 'big'}) {
  const rows = () => [
      ['map', 'layer', xLabel, `share of ${what()}`],
      ...maps().flatMap(
          (map) => map.values.flatMap(
              (row, l) => row.map((value, c) => [map.title, l, map.columnName(c), value])))];
  const area = h('div', {class: 'maps'}), scale = h('div');
  const redraw = () => {
    const all = maps();
    const panels = all.map((map) => ({map, node: h('div')}));
    area.replaceChildren(...panels.map(
        ({map, node}) =>
            h('div', {class: 'map'},
              all.length > 1 || map.title !== what() ? h('h4', {}, map.title) : null, node)));
    scale.replaceChildren(shareScale(what()));
    for (const {map, node} of panels)
      drawGrid(node, {
        layers: map.values.length,
        columns: map.values[0].length,
        label: `${title}, ${map.title}`,
        xLabel,
        low: map.low,
        high: map.high,
        colour: (l, c) => shareColour(map.values[l][c]),
        value: (l, c) => map.values[l][c],
        read: (l, c) => `layer ${l}, ${map.columnName(c)}: ${percent(map.values[l][c])} ${what()}`
      });
    fig.describe(all.map((map) => mapText(map, what())).join(' '));
  };
  const fig = figure(id, title, {caption, wide, rows, redraw});
  fig.body.append(
      h('div', {class: 'controls'}, controls.map((control) => control.node)), area, scale);
  fig.start = () => {
    for (const control of controls) control.start();
    redraw();
  };
  return fig;
}

function mapText(map, what) {
  const layers = map.values.map((row) => percent(mean(row)));
  const half = Math.floor(map.values[0].length / 2);
  const early = mean(map.values.map((row) => mean(row.slice(0, half || 1)))),
        late = mean(map.values.map((row) => mean(row.slice(half))));
  return `${map.title}: share of ${what} by layer, from the first: ${
      layers.join(
          ', ')}; first half of the columns ${percent(early)}, second half ${percent(late)}.`;
}

/* ---------------------------------------------------------------- studies */

// A study bears the name of its first file.
function studyTitle(text, i) {
  const name = data.studies[i].files[0].path.replace(/^.*\//, '').replace(/\.h5$/, '');
  return data.studies.length > 1 ? `${text}: ${name}` : text;
}

const moves = (map) =>
    map && map.big && map.big.some((row) => row.some((value) => value > 0 && value < 1));

// Everything in a study that has a map which is not the same for all tokens.
function studyMaps(study) {
  const list =
      shownPolicies(study)
          .filter((policy) => moves(policy.map) || moves({big: policy.map.skip}))
          .map(
              (policy) =>
                  ({name: policy.name, family: familyOf(policy.name).label, map: policy.map}));
  for (const file of study.files)
    if (file.curves)
      file.curves.maps.forEach((map, b) => {
        if (moves(map))
          list.push(
              {name: `oracle-${b}, reference context`, family: 'oracle, reference context', map});
      });
  return list;
}

const MOST_MAPS = 12;
const spread = (list) =>
    (list.length <= MOST_MAPS ?
         list :
         Array.from({length: MOST_MAPS}, (_, i) => list[Math.floor(i * list.length / MOST_MAPS)]));

function studyMapFigure(study, i) {
  const all = studyMaps(study);
  if (all.length === 0) return null;
  const names = [...new Set(all.map((entry) => entry.family))];
  const main = ['oracle', 'oracle, no budget or another context', 'router', 'oracle, reference context'].filter(
      (name) => names.includes(name));
  const kinds = ['oracle', 'router'].filter((kind) => main.some((name) => name.startsWith(kind)));
  const few = all.length <= 4 || main.length === 0;
  const options = [few ? ['all', 'all'] : ['main', kinds.join(' and ')]];
  options.push(...names.filter(() => names.length > 1).map((name) => [name, name]));
  let family = options[0][0], what = 'big';
  const modules = ['big', 'skip'].filter((module) => all.some((entry) => entry.map[module]));
  const chosen = () => spread(all.filter(
      (entry) => family === 'all' ||
          (family === 'main' ? main.includes(entry.family) : entry.family === family)));
  const cover = (map, c) => {
    const first = c * map.per, last = Math.min(study.T, first + map.per) - 1;
    return first === last ? `position ${first}` : `positions ${first} to ${last}`;
  };
  const maps = () => chosen().map(({name, map}) => ({
                                    title: name,
                                    values: map[what] || map.big.map((row) => row.map(() => 0)),
                                    columnName: (c) => cover(map, c),
                                    low: 0,
                                    high: study.T - 1
                                  }));
  const redraw = () => {
    if (fig.started) fig.redraw();
  };
  const controls = [];
  if (options.length > 1)
    controls.push(chooser(`map-family-${i}`, 'Policies', options, (value) => {
      family = value;
      redraw();
    }));
  if (modules.length > 1)
    controls.push(switcher(`map-module-${i}`, 'Share of', modules.map((m) => [m, m]), (value) => {
      what = value;
      redraw();
    }));
  const fig = mapFigure(`map-${i + 1}`, studyTitle('Where compute goes', i), {
    maps,
    controls,
    what: () => what,
    wide: true,
    xLabel: 'position',
    caption: `The share of ${
        plural(
            study.R,
            'sequence')} that take a module, by layer (the first at the bottom) and position.`
  });
  const {start} = fig;
  fig.start = () => {
    start();
    fig.started = true;
  };
  return fig;
}
