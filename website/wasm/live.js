// A rat that is simulated here: MuJoCo's module, the policy, and the observations between them.
function numbers({ kind, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new globalThis[kind](bytes.buffer);
}

// Of ONNX: vectors, and a matrix (outputs, inputs) where there is one. The smallest module of
// onnxruntime-web (1.30) has 14 MB, half of what the whole site may have; this needs none.
const each = (f) => (a, b) => a.map((value, i) => f(value, b.length > 1 ? b[i] : b[0]));
const operations = {
  Cast: (x) => x,
  Sub: each((x, y) => x - y),
  Div: each((x, y) => x / y),
  Mul: each((x, y) => x * y),
  Add: each((x, y) => x + y),
  Clip: (x, low, high) => x.map((value) => Math.min(Math.max(value, low[0]), high[0])),
  Tanh: (x) => x.map(Math.tanh),
  Relu: (x) => x.map((value) => Math.max(value, 0)),
  Elu: (x) => x.map((value) => (value > 0 ? value : Math.expm1(value))),
  Gemm: (x, weight, bias) => Array.from(bias, (value, row) => {
    for (let i = 0, at = row * x.length; i < x.length; i++) value += weight[at + i] * x[i];
    return value;
  }),
};

class Policy {
  constructor({ steps, constants }) {
    this.steps = steps;
    this.constants = Object.fromEntries(Object.entries(constants).map(([name, packed]) => [name, numbers(packed)]));
  }

  act(observation) {
    const values = { ...this.constants, obs: observation };
    for (const [operation, inputs, output] of this.steps) {
      values[output] = operations[operation](...inputs.map((name) => values[name]));
    }
    return values.action;
  }
}

// A column of three of a 3 × 3 matrix, row by row, times a vector.
function turned(matrix, [x, y, z]) {
  return [0, 1, 2].map((i) => matrix[i] * x + matrix[3 + i] * y + matrix[6 + i] * z);
}

class Simulation {
  constructor(mujoco, { physics, task, policy }) {
    Object.assign(this, { mujoco, task, substeps: physics.substeps });
    this.policy = new Policy(policy);
    this.model = mujoco.MjModel.from_xml_string(physics.mjcf);
    // What the text rounds, and what was changed after the compilation: the lumped damping.
    for (const [name, packed] of Object.entries(physics.numbers)) this.model[name].set(numbers(packed));
    Object.assign(this.model.opt, physics.options);
    this.dt = physics.options.timestep * physics.substeps;
    this.data = new mujoco.MjData(this.model);
    this.ego = task.ego.flat();
    this.reset();
  }

  // Stand where it is.
  reset() {
    const { data, task } = this, [x, y] = data.qpos, heading = this.time ? this.heading() : [1, 0];
    this.mujoco.mj_resetData(this.model, data);
    data.qpos.set(task.qpos);
    data.qpos.set([x, y], 0);
    const half = Math.atan2(heading[1], heading[0]) / 2, [c, s] = [Math.cos(half), Math.sin(half)];
    const [w, i, j, k] = task.qpos.slice(3, 7);
    data.qpos.set([c * w - s * k, c * i - s * j, c * j + s * i, c * k + s * w], 3);
    data.act.set(task.act);
    this.time = 0;
    this.pushed = 0;
    this.mujoco.mj_kinematics(this.model, data);
    this.aim(this.target ?? this.elsewhere());
  }

  aim(target) {
    this.target = target;
    this.closest = this.away();
  }

  away() {
    const [x, y] = this.data.qpos;
    return Math.hypot(this.target[0] - x, this.target[1] - y);
  }

  // A goal as the task draws them.
  elsewhere() {
    const [low, high] = this.task.distance, [x, y] = this.target ?? this.data.qpos;
    const far = low + (high - low) * Math.random(), angle = 2 * Math.PI * Math.random();
    return [x + far * Math.cos(angle), y + far * Math.sin(angle)];
  }

  // The animal's frame: columns are forward, left and up.
  rotation() {
    const root = this.data.xmat.subarray(9 * this.task.root, 9 * this.task.root + 9), { ego } = this;
    return Array.from({ length: 9 }, (_, at) => {
      const row = 3 * Math.floor(at / 3), column = at % 3;
      return root[row] * ego[column] + root[row + 1] * ego[3 + column] + root[row + 2] * ego[6 + column];
    });
  }

  heading(rotation = this.rotation()) {
    const [x, , , y] = rotation, length = Math.max(Math.hypot(x, y), 1e-6);
    return [x / length, y / length];
  }

  touch() {
    const { data, task: { geoms, half, radius, groups } } = this;
    const clear = geoms.map((geom, i) => data.geom_xpos[3 * geom + 2]
      - Math.abs(data.geom_xmat[9 * geom + 8]) * half[i] - radius[i]);
    return groups.map((group) => Number(Math.min(...group.map((i) => clear[i])) < 0));
  }

  // As vnl_envs/tasks/observations.py and goal_reaching.py; a test holds them together.
  observation() {
    const { data: { qpos, qvel, act, xpos }, task } = this, rotation = this.rotation();
    const root = xpos.subarray(3 * task.root, 3 * task.root + 3);
    const limbs = task.limbs.flatMap((body) =>
      turned(rotation, [0, 1, 2].map((i) => xpos[3 * body + i] - root[i])));
    const [x, y] = this.heading(rotation), [dx, dy] = [this.target[0] - qpos[0], this.target[1] - qpos[1]];
    return [
      ...qpos.subarray(7), ...qvel.subarray(6), ...act, qpos[2], ...rotation.slice(6),
      ...turned(rotation, qvel.subarray(0, 3)), ...turned(this.ego, qvel.subarray(3, 6)),
      ...limbs, ...this.touch(), x * dx + y * dy, x * dy - y * dx, this.away() - this.closest,
    ].map(Math.fround);
  }

  act() {
    const { control, span, range } = this.task;
    return Array.from(this.policy.act(this.observation()), (action, i) => {
      const [low, high] = range[i];
      return Math.min(Math.max(control[i] + Math.fround(action) * span[i], low), high);
    });
  }

  step(control = this.act()) {
    const { mujoco, model, data, task } = this;
    data.ctrl.set(control);
    if (this.pushed > 0 && --this.pushed === 0) data.xfrc_applied.fill(0);
    for (let i = 0; i < this.substeps; i++) mujoco.mj_step(model, data);
    // Where bodies are belongs to the instant before otherwise.
    mujoco.mj_kinematics(model, data);
    this.time += this.dt;
    this.closest = Math.min(this.closest, this.away());
    if (this.away() < task.reach) this.aim(this.elsewhere());
    if (!data.qpos.every(Number.isFinite)) {
      data.qpos.set(task.qpos);
      mujoco.mj_kinematics(model, data);
      this.reset();
    }
  }

  // Sideways for a tenth of a second, by as much as the animal weighs.
  push() {
    const [x, y] = this.heading(), { root } = this.task, side = Math.random() < 0.5 ? -1 : 1;
    const force = 9.81 * this.model.body_subtreemass[root] * side;
    this.data.xfrc_applied.set([-y * force, x * force, 0], 6 * root);
    this.pushed = Math.round(0.1 / this.dt) + 1;
  }

  get fallen() {
    return this.data.qpos[2] < this.task.fallen;
  }
}

class Live {
  constructor(data) {
    this.given = data;
    this.at = (id) => document.getElementById(id);
    this.stage = new Stage(this.at("canvas"));
    this.marker = new THREE.Mesh(_geometry.sphere([data.task.reach]), solid([1, 0.55, 0.1, 0.5]));
    this.stage.scene.add(this.marker);
    this.late = 0;
  }

  async open() {
    const { world, skins, camera } = this.given;
    this.figure = new Figure(world, await partsOf(world, skins, 40 * camera.distance));
    this.stage.scene.add(this.figure.root);
    this.listen();
  }

  async load() {
    this.at("play").disabled = true;
    await new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: "mujoco.js", onload: resolve });
      script.onerror = () => reject(new Error("mujoco.js is not beside the page"));
      document.head.append(script);
    });
    const packed = Uint8Array.from(atob(MUJOCO.binary), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const mujoco = await MUJOCO.load({ wasmBinary: await new Response(stream).arrayBuffer() });
    this.simulation = new Simulation(mujoco, this.given);
    this.at("facts").textContent += ` MuJoCo ${mujoco.mj_versionString()} in WebAssembly.`;
    this.at("play").disabled = false;
    this.place();
    this.look();
  }

  look() {
    this.stage.look(this.given.camera, this.focus());
  }

  focus() {
    return this.figure.kinematics.positions[this.given.task.root];
  }

  place() {
    const { simulation, figure, stage } = this;
    figure.place(Array.from(simulation.data.qpos));
    this.marker.position.set(...simulation.target, 0);
    const focus = this.focus();
    for (const mesh of figure.ground) {
      const { period } = mesh.userData;
      if (period) mesh.position.set(...[focus.x, focus.y].map((at) => Math.round(at / period) * period), 0);
    }
    if (this.at("follow").checked) stage.follow(focus);
    stage.focus.copy(focus);
    stage.light();
  }

  run(now) {
    if (!this.simulation) return;
    const { dt } = this.simulation;
    if (this.playing) {
      // A page that was away does not catch up.
      this.late = Math.min(this.late + (now - (this.now ?? now)) / 1000, 5 * dt);
      for (; this.late >= dt; this.late -= dt) this.simulation.step();
      this.place();
    }
    this.now = now;
    this.at("clock").textContent = `${this.simulation.time.toFixed(1)} s${this.simulation.fallen ? ", fallen" : ""}`;
    this.stage.draw();
    this.at("stage").classList.add("drawn");
    requestAnimationFrame((next) => this.run(next));
  }

  async toggle() {
    if (this.at("play").disabled) return;
    if (!this.simulation) {
      await this.load();
      requestAnimationFrame((now) => this.run(now));
    }
    this.playing = !this.playing;
    this.at("play").textContent = this.playing ? "Pause" : "Go on";
  }

  // Where a ray through a point of the picture meets the floor.
  floor({ offsetX, offsetY }) {
    const { camera, canvas } = this.stage;
    const to = new THREE.Vector3(2 * offsetX / canvas.clientWidth - 1, 1 - 2 * offsetY / canvas.clientHeight, 0.5)
      .unproject(camera).sub(camera.position);
    if (to.z >= 0) return null;
    const at = to.multiplyScalar(-camera.position.z / to.z).add(camera.position);
    return [at.x, at.y];
  }

  listen() {
    const failed = (error) => { this.at("trouble").textContent = `This browser cannot run it: ${error.message}`; };
    const does = {
      play: () => this.toggle().catch(failed),
      goal: () => this.simulation?.aim(this.simulation.elsewhere()),
      push: () => this.simulation?.push(),
      again: () => this.simulation?.reset(),
      view: () => this.simulation && this.look(),
    };
    for (const [id, act] of Object.entries(does)) this.at(id).addEventListener("click", () => { act(); this.moved(); });
    const { canvas } = this.stage;
    let down = null;
    canvas.addEventListener("pointerdown", ({ offsetX, offsetY }) => { down = [offsetX, offsetY]; });
    canvas.addEventListener("click", (event) => {
      const still = down && Math.hypot(event.offsetX - down[0], event.offsetY - down[1]) < 5;
      const target = still && this.simulation && this.floor(event);
      if (target) this.simulation.aim(target);
      this.moved();
    });
    const keys = { " ": "play", n: "goal", p: "push", r: "again", 0: "view" };
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    addEventListener("keydown", (event) => {
      const { key, target, ctrlKey, altKey, metaKey } = event;
      if (ctrlKey || altKey || metaKey || (key === " " && target !== document.body && target !== canvas)) return;
      if (key in keys) this.at(keys[key]).click();
      else if (key === "+" || key === "-") this.stage.move(0, 0, key === "+" ? 1 / 1.15 : 1.15);
      else if (target === canvas && key in turns) this.stage.move(...turns[key], 1);
      else return;
      event.preventDefault();
    });
  }

  moved() {
    if (this.simulation) this.place();
  }
}

document.documentElement.classList.add("scripted");
const live = new Live(globalThis.liveData);
globalThis.livePage = live;
live.open();
