"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function themed(layout) {
    const axis = { gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--grid"), automargin: true };
    const copy = { ...layout, font: { color: color("--ink"), size: 12, family: "inherit" }, autosize: true };
    copy.xaxis = { ...layout.xaxis, ...axis };
    copy.yaxis = { ...layout.yaxis, ...axis };
    copy.hoverlabel = { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") } };
    return copy;
  }

  function draw(id) {
    drawn.add(id);
    const figure = figures[id];
    Plotly.react(id, figure.data, themed(figure.layout), { responsive: true, displayModeBar: false });
  }

  const whenSeen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target.id)) draw(entry.target.id);
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll(".plot").forEach((plot) => whenSeen.observe(plot));

  function show(workload) {
    document.querySelectorAll(".workload").forEach((part) => { part.hidden = part.dataset.workload !== workload; });
  }
  document.getElementById("chooser").addEventListener("change", (event) => show(event.target.value));
  const chosen = document.querySelector("#chooser input:checked");
  if (chosen) show(chosen.value);

  function redraw() { drawn.forEach((id) => { if (document.getElementById(id).offsetParent) draw(id); else drawn.delete(id); }); }
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", redraw);
})();
