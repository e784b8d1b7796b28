"use strict";
(async () => {
  const figures = JSON.parse(await unpacked("figures"));
  const library = document.createElement("script");
  library.textContent = await unpacked("plotly");
  document.head.append(library); // runs at once, and defines Plotly
  const drawn = new Set();
  const hiddenArms = new Set();
  let everyone = false; // whether crowded figures show all arms
  const clocks = new Map(); // what the learning curves of a workload are over, by its id
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const element = (id) => document.getElementById(id);

  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

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

  // --- the names of lines stand at their ends, as far from each other as they are high

  const NAME = { size: 11, line: 15, gap: 6 }; // pixels

  function named(traces) {
    const ends = [];
    for (const trace of traces.filter((one) => one.visible && one.meta.label)) {
      const value = trace.y.findLast((one) => one !== null);
      if (value === undefined) continue;
      ends.push({ text: trace.meta.label, value, color: trace.line.color, height: NAME.line * trace.meta.label.split("<br>").length });
    }
    return ends;
  }

  const pen = document.createElement("canvas").getContext("2d");
  function widest(ends) {
    pen.font = `${NAME.size}px ${getComputedStyle(document.body).fontFamily}`;
    const lines = ends.flatMap((one) => one.text.split("<br>"));
    return Math.max(0, ...lines.map((line) => pen.measureText(line).width));
  }

  function apart(ends, height) { // from the top down, and where they go below the bottom, back up
    ends.sort((one, other) => one.at - other.at);
    let top = -NAME.line / 2;
    for (const one of ends) {
      one.at = Math.max(one.at, top + one.height / 2);
      top = one.at + one.height / 2;
    }
    let bottom = height + NAME.line / 2;
    for (const one of ends.toReversed()) {
      one.at = Math.min(one.at, bottom - one.height / 2);
      bottom = one.at - one.height / 2;
    }
  }

  function writeNames(id, ends, layout) {
    const plot = element(id);
    const axis = plot.layout.yaxis;
    const height = plot.clientHeight - layout.margin.t - layout.margin.b;
    const [bottom, top] = axis.range;
    for (const one of ends) {
      const value = axis.type === "log" ? Math.log10(one.value) : one.value;
      one.at = Math.min(1, Math.max(0, (top - value) / (top - bottom))) * height;
    }
    apart(ends, height);
    const names = ends.map((one) => ({
      text: one.text, font: { color: one.color, size: NAME.size }, align: "left", showarrow: false,
      xref: "paper", x: 1, xanchor: "left", xshift: NAME.gap, yref: "paper", y: 1 - one.at / height, yanchor: "middle",
    }));
    Plotly.relayout(id, { annotations: [...(layout.annotations || []), ...names] });
  }

  const LETTER = 6.3; // pixels that a letter of a name at an axis takes

  function wrapped(id, layout) { // names of bars that would take half of a narrow picture are on two lines
    if (layout.yaxis.type !== "category") return layout.yaxis;
    const names = [...new Set(figures[id].data.flatMap((trace) => trace.y))];
    const width = element(id).clientWidth;
    if (Math.max(...names.map((name) => name.length)) * LETTER < 0.5 * width) return layout.yaxis;
    const most = Math.max(12, Math.floor(0.45 * width / (0.85 * LETTER)));
    return { ...layout.yaxis, tickvals: names, ticktext: names.map((name) => onTwoLines(name, most)), tickfont: { size: 10 } };
  }

  function onTwoLines(name, most) {
    if (name.length <= most) return name;
    const space = name.lastIndexOf(" ", most);
    return space > 0 ? `${name.slice(0, space)}<br>${name.slice(space + 1)}` : name;
  }

  const TICK = 44; // pixels that the number at a tick takes

  function spaced(axis, width) { // ticks stand so far apart that their numbers do not touch
    if (axis.tickvals) {
      const step = Math.ceil(axis.tickvals.length * TICK / width);
      const kept = (_, number) => number % step === 0;
      return { ...axis, tickvals: axis.tickvals.filter(kept), ticktext: axis.ticktext.filter(kept) };
    }
    if (typeof axis.dtick !== "number") return axis;
    return { ...axis, dtick: Math.max(axis.dtick, Math.ceil(Math.abs(axis.range[1] - axis.range[0]) * TICK / width)) };
  }

  function draw(id) {
    drawn.add(id);
    const figure = figures[id];
    const traces = shown(figure, id);
    const layout = themed(figure.layout, clockOf(figure, id));
    const ends = named(traces);
    if (ends.length) {
      const plot = element(id);
      const needed = layout.margin.t + layout.margin.b + ends.reduce((sum, one) => sum + one.height, 0);
      if (plot.clientHeight < needed) plot.style.height = `${needed}px`;
      layout.margin.r = widest(ends) + 2 * NAME.gap;
    }
    layout.xaxis = spaced(layout.xaxis, element(id).clientWidth - layout.margin.l - layout.margin.r);
    layout.yaxis = wrapped(id, layout);
    if (layout.yaxis.type === "category") {
      layout.xaxis = { ...layout.xaxis, nticks: Math.max(4, Math.min(6, Math.floor(element(id).clientWidth / (2 * TICK)))) };
    }
    Plotly.react(id, traces, layout, { responsive: true, displayModeBar: false });
    if (ends.length) writeNames(id, ends, layout);
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
  const chosen = document.querySelector("#chooser select, #chooser input:checked");
  if (chosen) show(chosen.value);

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

  // --- tables that are wider than the screen say so

  function hint() {
    document.querySelectorAll(".scroll").forEach((box) => { box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1); });
  }
  document.addEventListener("toggle", hint, true);
  window.addEventListener("resize", hint);
  hint();

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
    element("arms").open = true; // paper has no button for it
    document.querySelectorAll(".plot").forEach((plot) => { if (!plot.closest("details:not([open])")) draw(plot.id); });
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    const current = document.querySelector("#chooser select, #chooser input:checked");
    if (current) show(current.value);
  });
})();
