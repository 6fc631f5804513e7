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
    var text = document.getElementById("spec-" + figure.dataset.chart).textContent;
    var spec = fit(JSON.parse(recolour(text)), width);
    return window.vegaEmbed(box, spec, { actions: false, renderer: "svg", hover: false }).then(function () {
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
  all();

  // A click on a number shows the table cell that it was read from.
  var listed = JSON.parse(document.getElementById("cells").textContent), cells = {}, place = document.getElementById("where");
  listed.cells.forEach(function (row) {
    var cell = {};
    listed.columns.forEach(function (name, i) { cell[name] = row[i]; });
    cells[cell.id] = cells[cell.id] || cell;
  });
  document.addEventListener("click", function (event) {
    var target = event.target.closest("data[data-cell]");
    if (!target) { place.hidden = true; return; }
    var cell = cells[target.dataset.cell];
    var key = [];
    listed.keys[cell.mart].forEach(function (name, i) { if (cell.key[i] !== null) key.push(name + " = " + cell.key[i]); });
    place.textContent = target.textContent.trim() + " is column " + cell.column + " of table " + cell.mart + ", row " +
      key.join(", ") + "; exact value " + (cell.raw === null ? "null" : cell.raw) + ". Cell " + cell.id;
    place.hidden = false;
  });
})();
