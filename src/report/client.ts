/**
 * The page's own script, for browsers. It stands here as text because it is not compiled with the
 * package: it knows a document and no modules. It puts text into the page only as text.
 */
export const clientScript = `
(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('chart-data').textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
  const units = [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

  function brief(value) {
    if (value === null || value === undefined) return '–';
    for (const [size, unit] of units) {
      if (Math.abs(value) >= size * 0.99995) return Number((value / size).toPrecision(3)) + unit;
    }
    return String(Number(value.toPrecision(3)));
  }

  // 90 s, 4:05 (min:s) or 2:04:05, by how long the whole is.
  const longest = data.total?.timeS.at(-1) ?? 0;
  function clock(seconds) {
    if (seconds === null || seconds === undefined) return '–';
    const two = (value) => String(value).padStart(2, '0');
    if (longest < 180) return Number(seconds.toFixed(2)) + ' s';
    const whole = Math.round(seconds);
    const minutes = Math.floor(whole / 60);
    if (longest < 7200) return minutes + ':' + two(whole % 60);
    return Math.floor(minutes / 60) + ':' + two(minutes % 60) + ':' + two(whole % 60);
  }

  const charts = new Map();

  function draw(id, spec) {
    const place = document.getElementById(id);
    if (place === null) return;
    charts.get(id)?.destroy();
    const axis = { stroke: colour('quiet'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, font: '12px system-ui, sans-serif' };
    const options = {
      width: place.clientWidth,
      height: 230,
      cursor: { sync: { key: 'time' }, points: { size: 7 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high > 0 ? high : 1) * 1.06] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => brief(tick)), label: spec.unit, labelFont: '12px system-ui, sans-serif', labelSize: 18 },
      ],
      series: [{ label: 'Time', value: (_, value) => clock(value) }, ...spec.series],
      bands: spec.bands ?? [],
    };
    charts.set(id, new uPlot(options, spec.columns, place));
  }

  const line = (label, name, more) => ({ label, stroke: colour(name), width: 1.75, points: { show: false }, value: (_, value) => brief(value), ...more });

  function drawTotal() {
    if (data.total === null) return;
    const { timeS, demand, admitted } = data.total;
    draw('chart-total', {
      unit: 'tokens/s',
      columns: [timeS, demand, admitted, timeS.map(() => data.limit)],
      series: [line('Demand', 'demand'), line('Admitted', 'admitted'), line('Limit', 'limit', { dash: [7, 5], width: 1.5 })],
    });
  }

  // The mean over the horizon that ends with each step: what the forecast is about.
  function trailingMean(values) {
    const span = Math.max(1, Math.round(data.horizonS / data.stepS));
    return values.map((_, end) => {
      if (end + 1 < span) return null;
      const part = values.slice(end + 1 - span, end + 1);
      return part.includes(null) ? null : part.reduce((sum, value) => sum + value, 0) / span;
    });
  }

  function drawTarget() {
    const target = data.targets[Number(document.getElementById('target').value)];
    if (target === undefined) return;
    const horizonLonger = data.horizonS > data.stepS;
    const columns = [target.timeS, target.q90, target.q50, target.demand];
    const series = [
      line('Forecast 90 %', 'forecast', { width: 1 }),
      line('Forecast median', 'forecast', { dash: [6, 4] }),
      line('Demand', 'demand', horizonLonger ? { width: 1 } : {}),
    ];
    if (horizonLonger) {
      columns.push(trailingMean(target.demand));
      series.push(line('Mean that came', 'mean', { width: 2.25 }));
    }
    draw('chart-forecast', { unit: 'tokens/s', columns, series, bands: [{ series: [1, 2], fill: colour('band') }] });
    draw('chart-level', {
      unit: 'tokens',
      columns: [target.timeS, target.level],
      series: [line('Tokens', 'level', { fill: colour('level') + '22' })],
    });
    const asked = target.admitted.map((value, i) => (value ?? 0) + (target.denied[i] ?? 0));
    const bars = uPlot.paths.bars({ size: [0.85, 60], gap: 0 });
    const bar = (label, name, more) => line(label, name, { fill: colour(name), width: 0, paths: bars, ...more });
    draw('chart-admissions', {
      unit: 'tokens/s',
      columns: [target.timeS, asked, target.admitted],
      series: [
        bar('Denied', 'denied', { value: (_, __, ___, index) => brief(index === null ? null : target.denied[index]) }),
        bar('Admitted', 'admitted'),
      ],
    });
    fillNumbers(target);
  }

  const columns = [['Time', 'timeS', clock], ['Demand', 'demand'], ['Forecast median', 'q50'], ['Forecast 90 %', 'q90'], ['Tokens', 'level'], ['Admitted', 'admitted'], ['Denied', 'denied']];

  function fillNumbers(target) {
    const numbers = document.getElementById('numbers');
    const place = numbers.querySelector('div');
    place.textContent = '';
    if (!numbers.open) return;
    const table = document.createElement('table');
    const head = table.createTHead().insertRow();
    for (const [label] of columns) {
      const cell = document.createElement('th');
      cell.scope = 'col';
      cell.textContent = label;
      head.append(cell);
    }
    const body = table.createTBody();
    target.timeS.forEach((_, row) => {
      const line = body.insertRow();
      columns.forEach(([, name, text], index) => {
        const cell = document.createElement(index === 0 ? 'th' : 'td');
        if (index === 0) cell.scope = 'row';
        cell.textContent = (text ?? brief)(target[name][row]);
        line.append(cell);
      });
    });
    place.append(table);
  }

  function drawAll() {
    drawTotal();
    if (data.targets.length > 0) drawTarget();
  }

  document.getElementById('target')?.addEventListener('change', drawTarget);
  document.getElementById('numbers')?.addEventListener('toggle', drawTarget);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  let due = 0;
  addEventListener('resize', () => {
    clearTimeout(due);
    due = setTimeout(() => {
      for (const [id, chart] of charts) chart.setSize({ width: document.getElementById(id).clientWidth, height: 230 });
    }, 100);
  });
  drawAll();
})();
`;
