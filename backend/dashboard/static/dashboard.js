// Fetches panels that need more than small files, asks again for what changes, draws figures.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A figure names colours of the style sheet; plotly wants what they stand for.
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item)]));
    }
    return value;
  };

  const layoutOf = (given) => {
    const axis = {
      gridcolor: colour("--line"),
      zerolinecolor: colour("--line"),
      linecolor: colour("--line"),
      tickfont: { color: colour("--quiet") },
      automargin: true,
    };
    const axisOf = (own) => ({
      ...axis,
      ...own,
      title: { ...own.title, standoff: 10, font: { size: 13, color: colour("--quiet") } },
    });
    return {
      ...given,
      xaxis: { ...axisOf(given.xaxis), showgrid: false },
      yaxis: axisOf(given.yaxis),
      paper_bgcolor: colour("--panel"),
      plot_bgcolor: colour("--panel"),
      font: { color: colour("--text"), size: 13, family: getComputedStyle(document.body).fontFamily },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--control"), font: { color: colour("--text") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      bargap: 0.35,
      margin: { l: 50, r: 15, t: 34, b: 45 },
    };
  };

  const draw = (place) => {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const config = { displayModeBar: false, responsive: true, showTips: false };
    window.Plotly.react(place, coloured(figure.data), layoutOf(figure.layout), config);
  };

  const drawShown = () => {
    if (!window.Plotly) return;
    for (const place of document.querySelectorAll("[data-figure]")) {
      if (place.offsetParent !== null) draw(place);
    }
    // Where plotly measures texts: far outside of the page, and nothing for a screen reader.
    document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");
  };

  const loadPlotly = () => {
    if (!document.querySelector("[data-figure]")) return;
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.addEventListener("load", drawShown);
    document.head.append(script);
  };

  const fill = async (place) => {
    try {
      // Of the origin: an address with the login in it is refused by fetch.
      const address = new URL(place.dataset.panel, location.origin);
      const answer = await fetch(address, { headers: { "X-Panel": "1" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      place.replaceChildren(...page.body.childNodes);
      place.removeAttribute("aria-busy");
    } catch {
      // The service is being restarted, say: what is shown stays, and the link in it works.
    }
  };

  const start = () => {
    for (const place of document.querySelectorAll("[data-panel]")) {
      const every = Number(place.dataset.every || 0);
      if (!every) {
        fill(place);
        continue;
      }
      setInterval(() => {
        if (!document.hidden) fill(place);
      }, every * 1000);
    }
    for (const details of document.querySelectorAll("details")) {
      details.addEventListener("toggle", drawShown);
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawShown);
    loadPlotly();
  };

  start();
})();
