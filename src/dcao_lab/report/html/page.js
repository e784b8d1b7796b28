"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const hiddenArms = new Set();
  let everyone = false; // whether crowded figures show all arms
  const clocks = new Map(); // what the learning curves of a workload are over, by its id
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const element = (id) => document.getElementById(id);

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function themed(layout, clock) {
    const axis = { gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--line"), automargin: true, exponentformat: "e" };
    const copy = { showlegend: false, dragmode: false, hovermode: "closest", autosize: true, ...layout };
    const isNamedAbove = (layout.annotations || []).some((one) => one.yref === "paper" && one.yanchor === "bottom");
    copy.margin = { l: 56, r: 12, t: isNamedAbove ? 22 : 8, b: 44 };
    copy.paper_bgcolor = copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.font = { color: color("--ink"), size: 12, family: "inherit" };
    copy.xaxis = { ...layout.xaxis, ...axis };
    copy.yaxis = { ...layout.yaxis, ...axis };
    if (clock) copy.xaxis.title = { text: clock };
    copy.hoverlabel = { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") }, namelength: -1 };
    return copy;
  }

  function clockOf(figure, id) {
    const clock = clocks.get(id.split("-")[0]);
    return clock && figure.data.some((trace) => trace.meta.clocks) ? clock : null;
  }

  function isShown(meta) {
    return !hiddenArms.has(meta.arm) && (everyone || !meta.is_extra);
  }

  function shown(figure, id) {
    const clock = clockOf(figure, id);
    return figure.data.map((trace) => {
      const copy = { ...trace, visible: isShown(trace.meta) };
      if (clock) copy.x = trace.meta.clocks[clock];
      return copy;
    });
  }

  function draw(id) {
    drawn.add(id);
    const figure = figures[id];
    Plotly.react(id, shown(figure, id), themed(figure.layout, clockOf(figure, id)), { responsive: true, displayModeBar: false });
  }

  function redraw() {
    drawn.forEach((id) => { if (element(id).offsetParent) draw(id); else drawn.delete(id); });
  }

  const whenSeen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target.id)) draw(entry.target.id);
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll(".plot").forEach((plot) => whenSeen.observe(plot));

  // --- which workload, which arms, over what

  function show(workload) {
    document.querySelectorAll(".workload").forEach((part) => { part.hidden = part.dataset.workload !== workload; });
    redraw();
  }
  element("chooser").addEventListener("change", (event) => show(event.target.value));
  const chosen = document.querySelector("#chooser input:checked");
  if (chosen) show(chosen.value);
  if (window.matchMedia("(max-width: 40rem)").matches) element("arms").open = false;

  document.querySelectorAll(".clocks").forEach((group) => {
    group.addEventListener("change", (event) => {
      clocks.set(event.target.name.replace("clock-", ""), event.target.value);
      redraw();
    });
    const checked = group.querySelector("input:checked"); // a reload keeps the choice
    clocks.set(checked.name.replace("clock-", ""), checked.value);
  });

  const crowd = element("crowd");
  if (crowd) {
    const ask = () => { everyone = crowd.querySelector("input:checked").value === "all"; redraw(); };
    crowd.addEventListener("change", ask);
    ask(); // a reload keeps the choice
  }

  function toggle(arm) {
    const hide = !hiddenArms.has(arm);
    if (hide) hiddenArms.add(arm); else hiddenArms.delete(arm);
    document.querySelectorAll(".arm").forEach((button) => {
      if (button.dataset.arm === arm) button.setAttribute("aria-pressed", String(!hide));
    });
    redraw();
  }
  document.querySelectorAll(".arm").forEach((button) => button.addEventListener("click", () => toggle(button.dataset.arm)));

  // --- the data behind a figure

  function cell(value) {
    const text = String(value ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv(id) {
    const figure = figures[id];
    const { xaxis, yaxis } = figure.layout;
    const names = ["trace", clockOf(figure, id) || xaxis.title.text, yaxis.title?.text ?? "y"];
    const rows = [[...names, "interval from", "interval to"]];
    for (const trace of shown(figure, id).filter((one) => !one.meta.is_mark)) {
      const bars = trace.error_x;
      trace.x.forEach((value, i) => {
        const interval = bars ? [value - bars.arrayminus[i], value + bars.array[i]] : ["", ""];
        rows.push([trace.name, value, trace.y[i], ...interval]);
      });
    }
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  function download(id) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(id)], { type: "text/csv" }));
    link.download = `${id}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  document.querySelectorAll("button.data").forEach((button) => button.addEventListener("click", () => download(button.dataset.figure)));

  // --- light, dark and paper

  element("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", redraw);

  window.addEventListener("beforeprint", () => { // everything is on paper, and paper is light
    document.documentElement.dataset.theme = "light";
    document.documentElement.classList.add("printing");
    document.querySelectorAll(".workload").forEach((part) => { part.hidden = false; });
    document.querySelectorAll(".plot").forEach((plot) => { if (!plot.closest("details:not([open])")) draw(plot.id); });
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    const current = document.querySelector("#chooser input:checked");
    if (current) show(current.value);
  });
})();
