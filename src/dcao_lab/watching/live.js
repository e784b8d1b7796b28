"use strict";
(() => {
  const PAUSE = 1000; // milliseconds between two looks
  const CURVE = "#2f7de1", EDGE = "#d55e00"; // both are told from light and from dark
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const element = (id) => document.getElementById(id);
  let shown = null;
  let seen = ""; // the version that is shown, of the server that answered last

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function layout(panel) {
    const axis = { gridcolor: color("--grid"), linecolor: color("--line"), zeroline: false, automargin: true, exponentformat: "e" };
    const ends = [panel.low, panel.high].map((end) => (panel.is_log ? Math.log10(end) : end));
    const made = {
      autosize: true, dragmode: false, showlegend: false, hovermode: "closest",
      margin: { l: 56, r: panel.edge === null ? 12 : 52, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--ink"), size: 12, family: "inherit" },
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") } },
      xaxis: { ...axis, exponentformat: "none", title: { text: "step" }, nticks: 5 },
      yaxis: { ...axis, type: panel.is_log ? "log" : "linear", range: ends, nticks: 6 },
    };
    if (panel.is_log && ends[1] - ends[0] > 1) made.yaxis.dtick = 1; // a label each power of ten
    if (panel.edge !== null) {
      made.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: panel.edge, y1: panel.edge, line: { color: EDGE, width: 1.5, dash: "dash" } }];
      made.annotations = [{ xref: "paper", x: 1, y: panel.edge, text: `edge ${panel.edge}`, showarrow: false, xanchor: "left", yanchor: "middle", font: { color: EDGE } }];
    }
    return made;
  }

  function figure(number) {
    const id = `curve-${number}`;
    if (!element(id)) {
      const made = document.createElement("figure");
      made.innerHTML = `<figcaption><span></span><b></b></figcaption><div class="plot" id="${id}" role="img"></div>`;
      element("curves").append(made);
    }
    return element(id);
  }

  function draw() {
    if (!shown) return;
    element("name").textContent = document.title = shown.name;
    element("state").textContent = shown.state;
    element("reason").textContent = shown.reason || "none yet";
    element("notices").textContent = shown.notices.join("; ");
    element("notices").hidden = !shown.notices.length;
    const plots = shown.panels.map((_, number) => figure(number)); // all before one is drawn: they share the width
    shown.panels.forEach((panel, number) => {
      const plot = plots[number];
      plot.previousSibling.firstChild.textContent = panel.name;
      plot.previousSibling.lastChild.textContent = panel.latest;
      plot.setAttribute("aria-label", `${panel.name} over the steps, now ${panel.latest}`);
      const trace = { x: panel.steps, y: panel.values, mode: panel.steps.length > 1 ? "lines" : "markers", line: { color: CURVE, width: 2 }, marker: { color: CURVE } };
      Plotly.react(plot, [trace], layout(panel), { responsive: true, displayModeBar: false });
    });
  }

  async function look() {
    try {
      const answer = await fetch(`/data?seen=${seen}`);
      if (answer.status === 200) {
        shown = await answer.json();
        seen = shown.version;
        draw();
      } else if (shown) {
        element("state").textContent = shown.state;
      }
    } catch {
      seen = ""; // another one may be started here, and count anew
      element("state").textContent = "dcao-lab watch has stopped; this is what it showed last";
    }
    if (!shown || !shown.is_over) setTimeout(look, PAUSE);
  }

  element("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    draw();
  });
  dark.addEventListener("change", draw);
  look();
})();
