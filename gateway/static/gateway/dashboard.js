// Draws the page's charts from the numbers that came with it, and submits a form when its choice changes.

const source = document.getElementById("numbers");
const numbers = source ? JSON.parse(source.textContent) : { charts: {} };
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 9 });

function shown(value, unit, format) {
  if (value === null) return "–";
  if (unit === "$") return `$${format.format(value)}`;
  if (unit === "ms") return value < 1000 ? `${Math.round(value)} ms` : `${short.format(value / 1000)} s`;
  return format.format(value);
}

function dataset(series, chart) {
  const colour = style(series.colour);
  return {
    label: series.name,
    data: series.values,
    backgroundColor: colour,
    borderColor: colour,
    borderWidth: chart.kind === "line" ? 2 : 0,
    pointRadius: chart.labels.length > 40 ? 0 : 2,
    pointHitRadius: 12,
    tension: 0,
    stack: "one",
  };
}

function options(chart) {
  const stacked = chart.kind === "bar";
  const grid = { color: style("--line"), drawTicks: false };
  const ticks = { color: style("--quiet"), maxRotation: 0, autoSkipPadding: 16 };
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: still ? false : { duration: 200 },
    interaction: { mode: "index", intersect: false },
    onClick: (_event, hit) => {
      const link = hit.length ? chart.links[hit[0].index] : undefined;
      if (link) location.assign(link);
    },
    scales: {
      x: { stacked, offset: true, grid: { display: false }, ticks },
      y: {
        stacked,
        beginAtZero: true,
        grid,
        border: { display: false },
        ticks: { ...ticks, maxTicksLimit: 6, callback: (value) => shown(value, chart.unit, short) },
      },
    },
    plugins: {
      legend: { display: chart.series.length > 1, align: "start", labels: { color: style("--text"), boxWidth: 12, boxHeight: 12 } },
      tooltip: {
        callbacks: { label: (item) => ` ${item.dataset.label}: ${shown(item.raw, chart.unit, exact)}` },
      },
    },
  };
}

function draw() {
  for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
    const chart = { labels: numbers.labels, links: numbers.links, ...numbers.charts[canvas.id] };
    if (!chart.series) continue;
    Chart.getChart(canvas)?.destroy();
    const data = { labels: chart.labels, datasets: chart.series.map((series) => dataset(series, chart)) };
    new Chart(canvas, { type: chart.kind, data, options: options(chart) });
    canvas.classList.toggle("leads", chart.links.length > 0);
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

for (const choice of document.querySelectorAll("select[data-submits]")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
}
