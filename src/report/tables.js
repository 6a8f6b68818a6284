// What a run is: recipe, sizes, work, where, hashes.

function runRows(run) {
  const rows = [['folder', run.folder]];
  const {model, parameters, flops, checkpoint} = run;
  if (model)
    rows.push([
      'model',
      `${model.layers} layers, width ${model.d_model}, ${model.heads} heads, big FFN ${
          model.d_big}, small FFN ${model.d_small}, vocabulary ${model.vocabulary}, ${
          model.max_seq} positions`
    ]);
  if (parameters)
    rows.push([
      'parameters',
      `${short(sum(Object.values(parameters)))} (${
          Object.entries(parameters)
              .filter(([, n]) => n > 0)
              .map(([group, n]) => `${group} ${short(n, 3)}`)
              .join(', ')})`
    ]);
  if (flops)
    rows.push([
      'FLOPs per token',
      `all small ${short(flops.base + flops.all_small_ffns)}, all big ${
          short(flops.base + flops.all_big_ffns)}, routers ${short(flops.routers)}`
    ]);
  if (run.stages)
    rows.push([
      'stages',
      run.stages.map((stage) => `${stage.name} (${stage.kind}, ${plural(stage.steps, 'step')})`)
          .join(', ')
    ]);
  const log = logOf(run), last = log[log.length - 1];
  if (last)
    rows.push([
      'done',
      `step ${last.step} of ${
          run.stages ? sum(run.stages.map((stage) => stage.steps)) :
                       'unknown'}, stage ${last.stage}, ${short(last.tokens)} tokens`
    ]);
  if (checkpoint) {
    rows.push([
      'newest checkpoint',
      `${checkpoint.path}, step ${checkpoint.step}, stage ${checkpoint.stage}, ${
          short(checkpoint.tokens)} tokens`
    ]);
    rows.push(
        ['instruction set', checkpoint.isa], ['model hash', checkpoint.model_hash || 'unknown']);
  }
  if (run.recipe_hash) rows.push(['recipe hash', run.recipe_hash]);
  return rows;
}

function runFigure(run, r) {
  const rows = runRows(run);
  const fig =
      figure(`run-${r + 1}`, runLabel(run), {rows: () => [['what', 'value'], ...rows], wide: true});
  if (run.problem) fig.body.append(h('p', {class: 'problem'}, run.problem));
  fig.body.append(table(['what', 'value'], rows.map(([key, value]) => [key, String(value)])));
  if (run.recipe)
    fig.body.append(
        h('details', {}, h('summary', {}, 'Recipe'), h('pre', {tabindex: 0}, run.recipe)));
  fig.describe(rows.map(([key, value]) => `${key}: ${value}.`).join(' '));
  return fig;
}

function filesFigure() {
  const files =
      data.studies.flatMap((study, s) => study.files.map((file) => ({study: s + 1, ...file})));
  const keys =
      ['study', 'path', 'policy', 'budget', 'context', 'method', 'modules', 'model_hash', 'hash'];
  const rows = () => [keys, ...files.map((file) => keys.map((key) => file[key]))];
  if (files.length === 0) return null;
  const fig = figure('files', 'Result files', {rows, wide: true});
  fig.body.append(table(
      keys.map((key) => key.replace('_', ' ')),
      files.map(
          (file) => keys.map((key) => String(file[key] === undefined ? '\u2013' : file[key])))));
  const strange = data.studies.flatMap((study, s) => (study.same_model ? [] : [s + 1]));
  if (strange.length > 0 && data.runs.length > 0) {
    const {run} = data.studies[strange[0] - 1];
    const spelled = run ? `texts are spelled with the vocabulary of ${run}` : 'ids stand for tokens';
    const note = `Study ${strange.join(', ')}: not of the newest checkpoint of a run; ${spelled}.`;
    fig.body.append(h('p', {class: 'note'}, note));
  }
  fig.describe(`${plural(files.length, 'file')}, studies: ${data.studies.length}.`);
  return fig;
}

function machineNote() {
  const {processor, cores} = data.machine;
  return h(
      'p', {class: 'note'},
      `Page made by duo ${data.version} on ${processor || 'an unknown processor'}, ${
          plural(cores, 'core')}.`);
}
