// Draws every chart from its embedded specification, in as many columns as fit, in the page's colours. No request is made.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var swap = JSON.parse(document.getElementById("dark-colours").textContent);

  function recolour(text) {
    if (!dark.matches) return text;
    return text.replace(/#[0-9a-f]{6}/g, function (c) { return swap[c] || c; });
  }
  function legends(node, columns) {
    if (!node || typeof node !== "object") return;
    if (node.legend && typeof node.legend === "object") node.legend.columns = columns;
    Object.keys(node).forEach(function (k) { if (k !== "values") legends(node[k], columns); });
  }
  function fit(spec, width) {
    var plot = spec.usermeta.plot, axis = spec.usermeta.axis;
    var columns = Math.max(1, Math.min(spec.columns || 1, Math.floor((width + 20) / (plot + axis))));
    spec.columns = columns;
    if (columns === 1) {
      plot = Math.max(110, Math.min(320, width - axis - 22));
      spec.concat.forEach(function (panel) { panel.width = plot; });
    }
    spec.config.legend.columns = Math.max(1, Math.min(7, Math.floor((width - (columns === 1 ? axis : 0)) / 140)));
    delete spec.title;
    spec.config.background = "transparent";
    return spec;
  }
  function draw(figure) {
    var box = figure.querySelector(".live");
    var width = figure.clientWidth;
    return unpacked("spec-" + figure.dataset.chart).then(function (text) {
      return window.vegaEmbed(box, fit(JSON.parse(recolour(text)), width), { actions: false, renderer: "svg", hover: false });
    }).then(function (drawn) {
      drawn.view.addEventListener("click", function (event, item) {
        if (item && item.datum && item.mark.markname !== "background") showChart(figure.dataset.chart, item.datum, figure.querySelector(".source"));
      });
      figure.classList.remove("failed");
      figure.dataset.drawn = width;
    }, function (error) {
      figure.classList.add("failed");
      console.error("chart " + figure.dataset.chart + ": " + error);
    });
  }
  var figures = Array.prototype.slice.call(document.querySelectorAll("figure[data-chart]"));
  function all() { return Promise.all(figures.map(draw)).then(function () { root.dataset.charts = "drawn"; }); }
  var last = root.clientWidth, timer;
  window.addEventListener("resize", function () {
    if (root.clientWidth === last) return;
    last = root.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(all, 200);
  });
  dark.addEventListener("change", all);
  window.addEventListener("beforeprint", function () { document.querySelectorAll("details").forEach(function (d) { d.open = true; }); });

  // A click on a number, or on a point of a chart, shows where it comes from.
  var listed = null, cells = {}, charts = {}, before = null;
  var place = document.getElementById("where"), heading = place.querySelector("h2"), list = place.querySelector("dl");
  var command = place.querySelector(".command code"), copy = place.querySelector(".copy");
  function takeIn(text) {
    listed = JSON.parse(text);
    listed.cells.forEach(function (row) {
      var cell = {};
      listed.columns.forEach(function (name, i) { cell[name] = row[i]; });
      cells[cell.id] = cells[cell.id] || cell;
    });
    listed.charts.forEach(function (chart) { charts[chart.chart] = chart; });
    document.querySelectorAll("data[data-cell]").forEach(function (number) {
      number.tabIndex = 0;
      number.setAttribute("role", "button");
      number.setAttribute("aria-haspopup", "dialog");
    });
  }
  function short(sha) { return sha ? " (SHA-256 " + sha.slice(0, 12) + "…)" : ""; }
  function decimal(raw) {  // a hex float, exactly
    var m = /^(-?)0x([01])\.([0-9a-f]+)p([+-]\d+)$/.exec(raw);
    return m ? String((m[1] ? -1 : 1) * parseInt(m[2] + m[3], 16) / Math.pow(16, m[3].length) * Math.pow(2, +m[4])) : raw;
  }
  function add(name, lines) {
    var term = document.createElement("dt");
    term.textContent = name;
    list.appendChild(term);
    lines.forEach(function (line) {
      var words = document.createElement("dd");
      words.textContent = line;
      list.appendChild(words);
    });
  }
  function sourceOf(mart) {
    var from = listed.sources[mart];
    if (!from) return;
    if (from.kind !== "query") {
      add({ published: "Published", measured: "Measured" }[from.kind] ?? "Declared", [from.path + short(from.sha256)]);
      return;
    }
    add("Values", [from.path + short(from.sha256)]);
    add("Query", [from.sql + short(from.sql_sha256)]);
    add("Tables it reads", [Object.keys(from.tables).map(function (name) { return name + short(from.tables[name]); }).join(", ")]);
    add("Score files", ["results/scores/" + listed.study + "/SUBSTRATE/SAE/SEED.parquet; the command lists the rows used"]);
  }
  function show(title, name, origin) {
    heading.textContent = title;
    command.textContent = "uv run sae-assay trace '" + name.replace(/'/g, "'\\''") + "'" + (listed.study === "default" ? "" : " --study " + listed.study);
    copy.textContent = "Copy";
    place.hidden = false;
    before = origin;
    place.focus({ preventScroll: true });
  }
  function close() {
    if (place.hidden) return;
    place.hidden = true;
    if (before && before.isConnected) before.focus({ preventScroll: true });
  }
  function showCell(target) {
    if (!listed) return;
    var cell = cells[target.dataset.cell], from = listed.sources[cell.mart] || {};
    list.textContent = "";
    if (/^-?0x/.test(cell.raw || "")) add("Exact value", [decimal(cell.raw) + " = " + cell.raw]);
    add("Cell", ["column " + cell.column + " of table " + cell.mart].concat(
      listed.keys[cell.mart].map(function (name, i) { return name + " = " + cell.key[i]; })
        .filter(function (line, i) { return cell.key[i] !== null; }).join(", ") || []));
    sourceOf(cell.mart);
    show(cell.shown + (from.kind === "published" ? " · published, not computed here" : ""), cell.id, target);
  }
  function showChart(name, datum, origin) {
    if (!listed) return;
    var chart = charts[name], point = [];
    Object.keys(datum || {}).forEach(function (key) {
      var value = datum[key];
      if (key.charAt(0) !== "_" && value !== null && typeof value !== "object") point.push(key.replace(/_/g, " ") + " = " + value);
    });
    list.textContent = "";
    if (point.length) add("Point", [point.join(", ")]);
    add("Chart’s data", ["results/charts/" + listed.study + "/" + name + ".json" + short(chart.data_sha256)]);
    chart.marts.forEach(sourceOf);
    show("A point of “" + document.getElementById("title-" + name).textContent + "”", "chart:" + name, origin);
  }
  document.addEventListener("click", function (event) {
    var number = event.target.closest("data[data-cell]"), button = event.target.closest("[data-source]");
    if (number) showCell(number);
    else if (button) showChart(button.dataset.source, null, button);
    else if (event.target.closest(".close") || !event.target.closest("#where, .live")) close();
  });
  document.addEventListener("keydown", function (event) {
    var number = event.target.closest && event.target.closest("data[data-cell]");
    if (event.key === "Escape") close();
    else if (number && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); showCell(number); }
  });
  copy.addEventListener("click", function () {
    function chosen() {  // no clipboard here: mark the text instead
      window.getSelection().selectAllChildren(command);
      copy.textContent = "Marked";
    }
    if (!navigator.clipboard) { chosen(); return; }
    navigator.clipboard.writeText(command.textContent).then(function () { copy.textContent = "Copied"; }, chosen);
  });
  function unpacked(id) {
    var bytes = Uint8Array.from(atob(document.getElementById(id).textContent), function (c) { return c.charCodeAt(0); });
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }
  if (!window.DecompressionStream) {  // an old browser: the still pictures stay
    figures.forEach(function (figure) { figure.classList.add("failed"); });
    return;
  }
  unpacked("cells").then(takeIn);
  unpacked("vega").then(function (code) {
    var script = document.createElement("script");
    script.textContent = code;
    document.head.appendChild(script);
    return all();
  });
})();
