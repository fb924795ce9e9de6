// The time line, and under it the terms of the reward.
const SVG = "http://www.w3.org/2000/svg";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Curves {
  constructor(slider, plot, legend) {
    Object.assign(this, { slider, plot, legend });
    this.hidden = new Set();
  }

  // Show the terms of a replay; names: of the terms, columns: what was unpacked.
  show(names, columns, frames) {
    this.slider.max = Math.max(frames - 1, 0);
    this.terms = columns.terms;
    this.plot.replaceChildren();
    this.legend.replaceChildren();
    this.plot.parentElement.classList.toggle("bare", !names.length);
    const highest = Math.max(...(this.terms?.values ?? []), 1e-9);
    const lowest = Math.min(...(this.terms?.values ?? []), 0);
    this.values = names.map((name, i) => {
      const line = document.createElementNS(SVG, "polyline"), kind = `line-${i % 6}`;
      // The first state is before any reward.
      const points = Array.from({ length: Math.max(frames - 1, 0) }, (_, frame) => {
        const value = this.terms.values[(frame + 1) * this.terms.width + i];
        return `${(1000 * (frame + 1) / (frames - 1)).toFixed(1)},${(97 - 94 * (value - lowest) / (highest - lowest)).toFixed(1)}`;
      });
      line.setAttribute("points", points.join(" "));
      line.setAttribute("class", kind);
      this.plot.append(line);
      const value = element("output");
      const button = element("button", { type: "button", title: "Show or hide this curve" },
        element("span", { className: "key" }), element("span", { className: "term", textContent: name.replaceAll("_", " ") }), value);
      const set = () => {
        const off = this.hidden.has(name);
        button.setAttribute("aria-pressed", String(!off));
        line.toggleAttribute("hidden", off);
      };
      button.addEventListener("click", () => {
        this.hidden.delete(name) || this.hidden.add(name);
        set();
      });
      set();
      this.legend.append(element("li", { className: kind }, button));
      return value;
    });
    const [top, bottom] = [highest, lowest].map((value) => value.toPrecision(2));
    this.plot.parentElement.dataset.range = names.length ? `${top}` : "";
    this.plot.parentElement.dataset.low = names.length ? `${bottom === "0.0" ? "0" : bottom}` : "";
  }

  at(time, share) {
    const frame = Math.round(time);
    this.slider.value = frame;
    this.plot.parentElement.style.setProperty("--share", share);
    this.values.forEach((output, i) => {
      const value = this.terms.values[frame * this.terms.width + i];
      output.textContent = frame ? value.toFixed(3).replace("-", "−") : "–";
    });
  }
}
