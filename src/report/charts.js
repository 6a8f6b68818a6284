// Lines over steps and budgets, by Chart.js.

Chart.defaults.font.family = 'system-ui, "DejaVu Sans", sans-serif';
Chart.defaults.animation = false;

// Upright lines where something begins: {x, label, colour}.
const marksPlugin = {
  id: 'marks',
  afterDatasetsDraw(chart, _, options) {
    const {ctx, chartArea: area, scales: {x}} = chart;
    ctx.save();
    ctx.font = '11px system-ui, "DejaVu Sans", sans-serif';
    for (const mark of options.list || []) {
      const at = x.getPixelForValue(mark.x);
      if (!(at >= area.left - 1 && at <= area.right)) continue;
      ctx.strokeStyle = ctx.fillStyle = mark.colour;
      ctx.setLineDash([2, 3]);
      ctx.beginPath();
      ctx.moveTo(at, area.top);
      ctx.lineTo(at, area.bottom);
      ctx.stroke();
      if (mark.label) ctx.fillText(mark.label, at + 4, area.top + 10 + 13 * (mark.row || 0));
    }
    ctx.restore();
  },
};

// Whiskers of one standard error for points that have one, when they are asked for.
const errorsPlugin = {
  id: 'errors',
  beforeDatasetsDraw(chart, _, options) {
    const {ctx, chartArea: area, scales: {y}} = chart;
    if (!options.shown) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(area.left, area.top, area.right - area.left, area.bottom - area.top);
    ctx.clip();
    ctx.lineWidth = 1;
    chart.data.datasets.forEach((set, i) => {
      if (!chart.isDatasetVisible(i)) return;
      ctx.strokeStyle = set.borderColor;
      chart.getDatasetMeta(i).data.forEach((element, k) => {
        const {low, high} = set.data[k];
        if (!known(low) || !known(high)) return;
        ctx.beginPath();
        ctx.moveTo(element.x, y.getPixelForValue(low));
        ctx.lineTo(element.x, y.getPixelForValue(high));
        ctx.stroke();
      });
    });
    ctx.restore();
  },
};

const dashes = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
const pointStyles = [
  'circle', 'rectRot', 'triangle', 'rect', 'crossRot', 'star', 'rectRounded', 'cross', 'rect',
  'triangle'
];

// series: {label, colour (a number), dash (a number), points: [{x, y, low, high, note}], dots}
function chartData(series) {
  return {
    datasets: series.map((s) => ({
                           label: s.label,
                           data: s.points,
                           borderColor: lineColour(s.colour),
                           backgroundColor: lineColour(s.colour),
                           borderDash: dashes[s.dash || 0],
                           borderWidth: s.dots ? 2 : 1.5,
                           pointRadius: s.dots ? 4 : 0,
                           pointHitRadius: 8,
                           clip: 6, // markers at the axes are whole
                           // Beyond the last colour they come again, with hollow markers.
                           pointBackgroundColor: s.colour < lineColours.length ?
                               lineColour(s.colour) :
                               style('--raised'),
                           pointStyle: s.dots ? pointStyles[s.colour % pointStyles.length] : 'line',
                           showLine: s.points.length > 1 && !s.apart,
                           tension: 0,
                         }))
  };
}

// Values of very different sizes would leave the small ones flat.
function isWide(series) {
  const values = series.flatMap((s) => s.points.map((p) => p.y));
  const least = Math.min(...values);
  return least > 0 && Math.max(...values) / least > 100;
}

// On a logarithmic axis 1, 3, 10, 30, ... are named.
function tickText(value, logarithmic) {
  const lead = logarithmic ? +(value / 10 ** Math.floor(Math.log10(value))).toFixed(6) : 1;
  return lead === 1 || lead === 3 ? short(value) : '';
}

function chartOptions({xLabel, yLabel, marks, xWhole, errors}, series) {
  const logarithmic = isWide(series);
  const axis = (text, more) => ({
    title: {display: true, text, color: style('--quiet')},
    grid: {color: style('--line')},
    ticks: {
      color: style('--quiet'),
      maxRotation: 0,
      callback: (value) => tickText(value, more.type === 'logarithmic'),
    },
    ...more,
  });
  return {
    responsive: true,
    maintainAspectRatio: false,
    parsing: false,
    interaction: {mode: 'nearest', axis: 'x', intersect: false},
    scales: {
      x: axis(xLabel, {type: 'linear', ...(xWhole ? {min: 0, max: xWhole} : {})}),
      y: axis(yLabel, {type: logarithmic ? 'logarithmic' : 'linear'}),
    },
    plugins: {
      errors: {shown: errors && errors.shown},
      marks: {list: (marks || []).map((mark) => ({...mark, colour: style('--quiet')}))},
      legend: {
        display: series.length > 1,
        labels: {
          color: style('--ink'),
          usePointStyle: true,
          boxHeight: series.every((s) => s.dots) ? 7 : 10,
        }
      },
      tooltip: {
        callbacks: {
          title: (items) => `${xLabel} ${short(items[0].parsed.x, 6)}`,
          label: (item) => `${item.dataset.label}: ${short(item.parsed.y, 5)}${
              item.raw.note ? ` (${item.raw.note})` : ''}`,
        }
      },
    },
  };
}

function seriesText(s, yLabel) {
  const {points} = s, ys = points.map((p) => p.y), last = points[points.length - 1];
  if (points.length === 1) return `${s.label}: ${short(last.y)} at ${short(last.x)}.`;
  return `${s.label}: ${plural(points.length, 'point')}, from ${short(points[0].y)} at ${
             short(points[0].x)} ` +
      `to ${short(last.y)} at ${short(last.x)}, ${yLabel} between ${short(Math.min(...ys))} and ${
             short(Math.max(...ys))}.`;
}

// A figure of lines. The arrow keys go from point to point of the series that up and down choose.
function chartFigure(id, title, {series: given, caption, wide, ...axes}) {
  const series =
      given.map((s) => ({...s, points: s.points.filter((p) => known(p.x) && known(p.y))}))
          .filter((s) => s.points.length > 0);
  if (series.length === 0) return null;
  let chart = null, which = 0, point = -1;
  const rows = () => [
      ['series', axes.xLabel, axes.yLabel],
      ...series.flatMap((s) => s.points.map((p) => [s.label, p.x, p.y]))];
  const draw = () => {
    chart.data = chartData(series);
    chart.options = chartOptions(axes, series);
    chart.update('none');
  };
  const fig = figure(id, title, {
    caption,
    wide,
    rows,
    redraw: () => {
      if (chart) draw();
    }
  });
  const canvas = h('canvas', {
    tabindex: 0,
    role: 'img',
    'aria-label': `${title}. Arrow keys read the points.`,
    onkeydown: (event) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key],
            turn = {ArrowUp: -1, ArrowDown: 1}[event.key];
      if (!step && !turn) return;
      event.preventDefault();
      if (turn) which = (which + turn + series.length) % series.length;
      const {points} = series[which], last = points.length - 1;
      point = Math.max(0, Math.min(last, point + (step || 0)));
      const active = [{datasetIndex: which, index: point}];
      chart.setActiveElements(active);
      chart.tooltip.setActiveElements(active, {x: 0, y: 0});
      chart.update('none');
      say(`${series[which].label}, ${axes.xLabel} ${short(points[point].x, 6)}: ${
          short(points[point].y, 5)}`);
    }
  });
  if (axes.errors) {
    const box = h('input', {
      type: 'checkbox',
      checked: kept.get(`${id}-errors`) === 'yes',
      onchange: () => {
        axes.errors.shown = box.checked;
        kept.set(`${id}-errors`, box.checked ? 'yes' : 'no');
        draw();
      }
    });
    axes.errors.shown = box.checked;
    fig.body.append(
        h('div', {class: 'controls'}, h('label', {}, box, `standard errors over ${axes.errors.over}`)));
  }
  fig.body.append(h('div', {class: series.length > 4 ? 'chart tall' : 'chart'}, canvas));
  fig.describe(series.map((s) => seriesText(s, axes.yLabel)).join(' '));
  fig.start = () => {
    chart = new Chart(canvas, {
      type: 'line',
      data: chartData(series),
      options: chartOptions(axes, series),
      plugins: [marksPlugin, errorsPlugin]
    });
    fig.chart = chart;
  };
  return fig;
}
