"use strict";
// Shows, hides, sorts and saves; every value and every word is computed before. The state lives in the URL's hash.
(() => {
  const PAGE_ROWS = 200;
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const state = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  const remember = (name, value) => {
    if (value) state.set(name, value); else state.delete(name);
    const text = state.toString();
    history.replaceState(null, "", text ? `#?${text}` : location.pathname + location.search);
  };
  const announce = (place, text) => { place.textContent = text; };

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const copyLinks = () => {
    for (const button of findAll("[data-link]")) {
      const status = find("[data-status]", button.parentElement);
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(location.href).then(
          () => announce(status, "copied"),
          () => announce(status, "copy the address of this page"),
        );
      });
    }
  };

  const pairs = () => {
    const controls = find("[data-pairs]");
    if (!controls) return;
    const views = findAll("[data-pair]");
    const baseline = find("[data-baseline]", controls);
    const candidate = find("[data-candidate]", controls);
    const show = () => {
      const key = `${baseline.value}-${candidate.value}`;
      const known = views.some((view) => view.dataset.pair === key);
      for (const view of views) {
        view.hidden = view.dataset.pair !== key;
        view.open = !view.hidden;
      }
      announce(find("[data-status]", controls), known ? "" : "not compared on this page; choose another pair");
    };
    const wanted = (state.get("compare") || views[0].dataset.pair).split("-");
    baseline.value = wanted[0];
    candidate.value = wanted[1];
    if (!baseline.value || !candidate.value) [baseline.value, candidate.value] = views[0].dataset.pair.split("-");
    const changed = () => { remember("compare", `${baseline.value}-${candidate.value}`); show(); };
    baseline.addEventListener("change", changed);
    candidate.addEventListener("change", changed);
    find("[data-swap]", controls).addEventListener("click", () => {
      [baseline.value, candidate.value] = [candidate.value, baseline.value];
      changed();
    });
    controls.hidden = false;
    show();
  };

  // One step at a time at a slider, where without scripts all stand below each other.
  const sliders = () => {
    for (const [number, series] of findAll("[data-series]").entries()) {
      const controls = find("[data-slider]", series);
      const input = find("input", controls);
      const fold = find("details", series);
      if (!fold) continue;
      const last = find("[data-step]", series);
      const steps = [...findAll("[data-step]", fold), last];
      last.before(...steps);
      fold.remove();
      const show = () => steps.forEach((step, place) => { step.hidden = place + 1 !== Number(input.value); });
      input.addEventListener("input", () => { remember(`step${number}`, input.value); show(); });
      if (state.has(`step${number}`)) input.value = state.get(`step${number}`);
      controls.hidden = false;
      show();
    }
  };

  const results = () => {
    const island = find("#results-data");
    if (!island) return;
    const data = JSON.parse(island.textContent);
    const controls = find("[data-results]");
    const table = find("table", find("#results"));
    const body = find("tbody", table);
    const filter = find("[data-filter]", controls);
    const status = find("[data-status]", controls);
    const count = data.columns[0].index.length;
    const textAt = (column, row) => column.values[column.index[row]][0];
    let searched = null;
    const search = () => {
      searched ??= Array.from({ length: count }, (_, row) =>
        data.columns.map((column) => textAt(column, row)).join("\u0000").toLowerCase());
      return searched;
    };
    let rows = [];
    let page = 0;
    const firstPage = Math.max(0, Number.parseInt(state.get("page") || "1", 10) - 1 || 0);
    let sorted = Number.parseInt(state.get("sort") || "", 10);
    let descending = (state.get("sort") || "").endsWith("d");

    const draw = () => {
      const lines = rows.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS).map((row) => {
        const line = document.createElement("tr");
        data.columns.forEach((column, place) => {
          const cell = document.createElement(place ? "td" : "th");
          if (!place) cell.scope = "row";
          const [text, tone] = column.values[column.index[row]];
          cell.textContent = text;
          cell.className = (place ? tone : "") + (column.numeric ? " number" : "");
          line.append(cell);
        });
        return line;
      });
      body.replaceChildren(...lines);
      report();
    };
    const report = () => {
      const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
      const of = rows.length === count ? `${count} rows` : `${rows.length} of ${count} rows`;
      announce(status, `${of}, page ${page + 1} of ${pages}`);
      find("[data-previous]", controls).disabled = page === 0;
      find("[data-next]", controls).disabled = page === pages - 1;
    };
    const choose = () => {
      const words = filter.value.toLowerCase().split(/\s+/u).filter(Boolean);
      rows = [];
      for (let row = 0; row < count; row += 1) {
        if (words.every((word) => search()[row].includes(word))) rows.push(row);
      }
      const column = data.columns[sorted];
      if (column) {
        const keys = column.values.map(([text, , key]) => {
          if (key !== null || !column.numeric) return key ?? text;
          return Number.isNaN(Number(text)) ? text : Number(text);
        });
        const sign = descending ? -1 : 1;
        const isNumber = column.numeric;
        rows.sort((a, b) => {
          const [first, second] = [keys[column.index[a]], keys[column.index[b]]];
          // What has no number comes last, whichever way.
          if (isNumber && typeof first !== typeof second) return typeof first === "number" ? -1 : 1;
          return first < second ? -sign : first > second ? sign : a - b;
        });
      }
      for (const [place, head] of findAll("thead th", table).entries()) {
        if (place === sorted) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
      page = 0;
      remember("page", "");
      draw();
    };
    const turn = (to) => {
      page = Math.min(Math.max(0, to), Math.max(0, Math.ceil(rows.length / PAGE_ROWS) - 1));
      remember("page", page ? String(page + 1) : "");
      draw();
    };
    findAll("thead th", table).forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => {
        descending = sorted === place && !descending;
        sorted = place;
        remember("sort", `${place}${descending ? "d" : "a"}`);
        choose();
      });
      head.replaceChildren(button);
    });
    filter.value = state.get("filter") || "";
    filter.addEventListener("input", () => { remember("filter", filter.value); choose(); });
    // The buttons are off where there is no such page.
    find("[data-previous]", controls).addEventListener("click", () => turn(page - 1));
    find("[data-next]", controls).addEventListener("click", () => turn(page + 1));
    // A cell that begins like a formula is one to a spreadsheet.
    const quote = (text) => `"${(/^[=+\-@\t\r]/u.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    // A number as it is, null where there is none, else the text.
    const valueAt = (column, row) => {
      const [text, , key] = column.values[column.index[row]];
      if (!column.numeric) return text;
      const number = key ?? Number(text);
      return Number.isFinite(number) ? number : null;
    };
    const field = (value) => (typeof value === "string" ? quote(value) : value ?? "");
    find("[data-csv]", controls).addEventListener("click", () => {
      const lines = [data.columns.map((column) => quote(column.key)).join(",")];
      for (const row of rows) lines.push(data.columns.map((column) => field(valueAt(column, row))).join(","));
      save("sdbench-results.csv", "text/csv", `${lines.join("\r\n")}\r\n`);
    });
    find("[data-json]", controls).addEventListener("click", () => {
      const objects = rows.map((row) => Object.fromEntries(data.columns.map((c) => [c.key, valueAt(c, row)])));
      save("sdbench-results.json", "application/json", `${JSON.stringify(objects, null, 1)}\n`);
    });
    controls.hidden = false;
    if (state.has("sort") || filter.value) {
      choose();
    } else {
      // The page came with its first rows.
      rows = Array.from({ length: count }, (_, row) => row);
      report();
    }
    if (firstPage) turn(firstPage);
  };

  const commands = () => {
    for (const block of findAll("pre.command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy command";
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(block.textContent).then(
          () => { button.textContent = "Copied"; },
          () => { getSelection().selectAllChildren(block); },
        );
      });
      block.after(button);
    }
  };

  // A link to another state of this page, pasted or gone back to, is a new start; one to a section only scrolls.
  addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) location.reload(); });

  pairs();
  sliders();
  results();
  copyLinks();
  commands();
  document.documentElement.dataset.ready = "yes";
})();
