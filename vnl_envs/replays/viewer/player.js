// Plays the replays of a page.
const SPEEDS = [0.1, 0.25, 0.5, 1, 2];

class Player {
  constructor(data, skins) {
    Object.assign(this, { data, skins });
    this.at = (id) => document.getElementById(id);
    this.stage = new Stage(this.at("canvas"));
    this.curves = new Curves(this.at("time"), this.at("plot"), this.at("legend"));
    this.worlds = new Map();
    this.markers = this.spheres(0);
    this.touches = this.spheres(0);
    this.stage.scene.add(this.markers, this.touches);
    this.time = 0;
    this.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.stale = true;
    this.listen();
  }

  spheres(order) {
    const group = new THREE.Group();
    group.renderOrder = order;
    return group;
  }

  // Show replay `index` from its start.
  async open(index) {
    this.index = index;
    const { name, world: number, states } = this.data.replays[index];
    const world = this.data.worlds[number];
    const columns = await unpack(states);
    if (!this.worlds.has(number)) {
      this.worlds.set(number, await partsOf(world, this.skins, 40 * states.camera.distance));
    }
    if (this.index !== index) return;
    for (const figure of [this.figure, ...(this.ghosts ?? [])]) if (figure) this.stage.scene.remove(figure.root);
    const parts = this.worlds.get(number);
    this.figure = new Figure(world, parts);
    const [animal] = world.animals;
    this.ghosts = Object.keys(columns).filter((name) => name.startsWith("ghost_"))
      .map(() => new Figure(world, parts, { animal, rgba: states.ghost_rgba }));
    this.stage.scene.add(this.figure.root, ...this.ghosts.map((ghost) => ghost.root));
    Object.assign(this, { states, world, columns, animal, time: 0, stale: true });
    this.contactsBefore = [0];
    for (const count of columns.contact_count.values) this.contactsBefore.push(this.contactsBefore.at(-1) + count);
    this.at("episode").value = index;
    for (const part of [this.at("ghost").closest("label"), this.at("ghost-key")]) part.hidden = !this.ghosts.length;
    this.curves.show(states.terms, columns, states.frames);
    this.place();
    this.stage.look(states.camera, this.focus());
    this.draw();
  }

  // Between all animals.
  focus() {
    const middle = new THREE.Vector3();
    for (const { bodies: [root] } of this.world.animals) middle.add(this.figure.kinematics.positions[root]);
    return middle.divideScalar(this.world.animals.length);
  }

  place() {
    const { columns, figure, time } = this;
    const { quaternions } = figure.kinematics;
    const qpos = rowAt(columns.qpos, time, [], quaternions);
    const turned = columns.scenery && Array.from({ length: columns.scenery.width / 7 }, (_, i) => 7 * i + 3);
    figure.place(qpos, columns.scenery && rowAt(columns.scenery, time, [], turned));
    this.ghosts.forEach((ghost, i) => {
      const { qpos: [start, stop] } = this.animal;
      const own = quaternions.filter((at) => start <= at && at < stop).map((at) => at - start);
      const pose = qpos.slice();
      rowAt(columns[`ghost_${i}`], time, [], own).forEach((value, at) => { pose[start + at] = value; });
      ghost.place(pose);
      ghost.root.visible = this.at("ghost").checked;
    });
    this.placeMarkers();
    this.placeContacts();
    const focus = this.focus();
    for (const mesh of figure.ground) {
      const { period } = mesh.userData;
      if (period) mesh.position.set(...[focus.x, focus.y].map((at) => Math.round(at / period) * period), 0);
    }
    if (this.at("follow").checked) this.stage.follow(focus);
    this.stage.focus.copy(focus);
    this.stage.light();
  }

  // A sphere for each of `count`.
  resize(group, count, make) {
    while (group.children.length < count) group.add(make());
    group.children.forEach((child, i) => { child.visible = i < count; });
    return group.children.slice(0, count);
  }

  placeMarkers() {
    const { markers } = this.columns, frame = Math.floor(this.time);
    const make = () => new THREE.Mesh(_geometry.sphere([1]), solid([1, 1, 1, 0.5]));
    this.resize(this.markers, markers ? markers.width / 8 : 0, make).forEach((mesh, i) => {
      const start = frame * markers.width + 8 * i;
      const [x, y, z, radius, ...rgba] = markers.values.subarray(start, start + 8);
      mesh.visible = radius > 0;
      mesh.position.set(x, y, z);
      mesh.scale.setScalar(radius || 1);
      mesh.material.color = colour(rgba);
      Object.assign(mesh.material, { opacity: rgba[3], transparent: rgba[3] < 1, depthWrite: rgba[3] === 1 });
    });
  }

  placeContacts() {
    const frame = Math.round(this.time), first = this.contactsBefore[frame];
    const count = this.at("contacts").checked ? this.contactsBefore[frame + 1] - first : 0;
    this.dot ??= new THREE.Mesh(_geometry.sphere([1]), new THREE.MeshBasicMaterial({
      color: 0xe8542a, depthTest: false, transparent: true, opacity: 0.9,
    }));
    this.resize(this.touches, count, () => this.dot.clone()).forEach((mesh, i) => {
      mesh.position.set(...this.columns.contact.values.subarray(3 * (first + i), 3 * (first + i + 1)));
      mesh.scale.setScalar(this.states.camera.distance / 200);
      mesh.renderOrder = 4;
    });
  }

  draw() {
    const { frames, dt } = this.states, last = frames - 1;
    this.curves.at(this.time, last ? this.time / last : 1);
    const seconds = (frame) => (frame * dt).toFixed(2);
    this.at("clock").textContent = `${seconds(this.time)} / ${seconds(last)} s`;
    this.at("time").setAttribute("aria-valuetext", `${seconds(this.time)} of ${seconds(last)} seconds`);
    this.at("play").textContent = this.playing ? "Pause" : "Play";
    this.stage.draw();
    this.stale = false;
    this.at("stage").classList.add("drawn");
  }

  // Go to a frame.
  seek(frame) {
    this.time = Math.min(Math.max(frame, 0), this.states.frames - 1);
    this.place();
    this.stale = true;
  }

  pause() {
    this.playing = false;
    this.stale = true;
  }

  toggle() {
    this.playing = !this.playing;
    this.stale = true;
  }

  advance(seconds) {
    const time = this.time + seconds / this.states.dt * Number(this.at("speed").value);
    if (time <= this.states.frames - 1) return this.seek(time);
    const { length } = this.data.replays;
    if (length === 1) return this.seek(0);
    this.seek(this.states.frames - 1);
    this.open((this.index + 1) % length);
  }

  run(now) {
    if (this.states) {
      const seconds = Math.min((now - (this.now ?? now)) / 1000, 0.1);
      if (this.playing) this.advance(seconds);
      if (this.stale) this.draw();
    }
    this.now = now;
    requestAnimationFrame((next) => this.run(next));
  }

  listen() {
    const refresh = () => { this.place(); this.stale = true; };
    const dirty = () => { this.stale = true; };
    this.at("play").addEventListener("click", () => this.toggle());
    this.at("time").addEventListener("input", ({ target }) => { this.pause(); this.seek(Number(target.value)); });
    for (const id of ["follow", "ghost", "contacts"]) this.at(id).addEventListener("change", refresh);
    this.at("follow").addEventListener("change", ({ target }) => target.checked && this.recentre());
    this.at("view").addEventListener("click", () => this.recentre());
    this.at("episode").addEventListener("change", ({ target }) => this.open(Number(target.value)));
    this.at("speed").append(...SPEEDS.map((speed) =>
      new Option(`${speed} ×`, speed, speed === 1, speed === 1)));
    this.at("episode").append(...this.data.replays.map(({ name }, i) => new Option(name, i)));
    this.at("episode").closest("label").hidden = this.data.replays.length < 2;
    this.stage.controls.addEventListener("change", dirty);
    this.stage.changed = dirty;
    new ResizeObserver(dirty).observe(this.stage.canvas);
    addEventListener("keydown", (event) => this.key(event));
  }

  recentre() {
    this.stage.look(this.states.camera, this.focus());
    this.stale = true;
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.states) return;
    const { tagName, type } = event.target, { key } = event;
    // What an element in focus does with the key itself.
    if (tagName === "SELECT" || (key === " " && (tagName === "BUTTON" || type === "checkbox"))) return;
    const looking = event.target === this.stage.canvas, step = event.shiftKey ? 50 : 1;
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const jumps = { ArrowLeft: this.time - step, ArrowRight: this.time + step, Home: 0, End: Infinity };
    const boxes = { f: "follow", g: "ghost", c: "contacts" };
    if (key === " " || key === "k") this.toggle();
    else if (key === "+" || key === "-") this.stage.move(0, 0, key === "+" ? 1 / 1.15 : 1.15);
    else if (key === "0") this.recentre();
    else if (key in boxes) this.at(boxes[key]).click();
    else if (looking && key in turns) this.stage.move(...turns[key], 1);
    else if (key in jumps) { this.pause(); this.seek(Math.round(jumps[key])); }
    else return;
    this.stale = true;
    event.preventDefault();
  }
}

async function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  document.documentElement.classList.add("scripted");
  try {
    const player = new Player(data, { ...data.skins, ...globalThis.replaySkins });
    globalThis.replayPlayer = player;
    await player.open(0);
    requestAnimationFrame((now) => player.run(now));
  } catch (error) {
    document.documentElement.classList.remove("scripted");
    document.getElementById("trouble").textContent = `This browser cannot play it: ${error.message}`;
  }
}

// The still picture is painted first.
requestAnimationFrame(() => setTimeout(start));
