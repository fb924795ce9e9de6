// Shapes and skins of a world, or of one animal alone as a ghost.
function colour([r, g, b]) {
  return new THREE.Color().setRGB(r, g, b, THREE.SRGBColorSpace);
}

function solid(rgba) {
  return new THREE.MeshStandardMaterial({
    color: colour(rgba), roughness: 0.75, opacity: rgba[3], transparent: rgba[3] < 1,
  });
}

// Two materials: the first hides what lies behind the front of the second.
function translucent(rgba) {
  const front = solid(rgba);
  front.depthWrite = false;
  return [new THREE.MeshBasicMaterial({ colorWrite: false }), front];
}

const _checkers = new Map();

function checkered({ colours }) {
  const key = JSON.stringify(colours);
  if (!_checkers.has(key)) {
    const canvas = document.createElement("canvas"), draw = canvas.getContext("2d");
    canvas.width = canvas.height = 128;
    const styles = colours.map((c) => `rgb(${c.map((part) => Math.round(255 * part)).join(" ")})`);
    for (const [x, y] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
      draw.fillStyle = styles[(x + y) % 2];
      draw.fillRect(64 * x, 64 * y, 64, 64);
    }
    const texture = new THREE.CanvasTexture(canvas);
    texture.colorSpace = THREE.SRGBColorSpace;
    texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
    texture.anisotropy = 8;
    _checkers.set(key, new THREE.MeshStandardMaterial({ map: texture, roughness: 0.95 }));
  }
  return _checkers.get(key);
}

// A texture that repeats every two tiles, seen along each face's normal.
function tiled(geometry, tile) {
  const { position, normal, uv } = geometry.attributes;
  for (let i = 0; i < uv.count; i++) {
    const [x, y, z] = [position.getX(i), position.getY(i), position.getZ(i)];
    const up = Math.abs(normal.getZ(i)) > 0.5, side = Math.abs(normal.getX(i)) > 0.5;
    uv.setXY(i, (side && !up ? y : x) / (2 * tile), (up ? y : z) / (2 * tile));
  }
  return geometry;
}

const _upright = new THREE.Matrix4().makeRotationX(Math.PI / 2);
const _geometry = {
  sphere: ([r]) => new THREE.SphereGeometry(r, 32, 20),
  ellipsoid: ([x, y, z]) => new THREE.SphereGeometry(1, 32, 20).scale(x, y, z),
  // Three's stand along y.
  capsule: ([r, half]) => new THREE.CapsuleGeometry(r, 2 * half, 10, 24).applyMatrix4(_upright),
  cylinder: ([r, half]) => new THREE.CylinderGeometry(r, r, 2 * half, 32).applyMatrix4(_upright),
  box: ([x, y, z]) => new THREE.BoxGeometry(2 * x, 2 * y, 2 * z),
  plane: ([x, y], endless) => new THREE.PlaneGeometry(2 * (x || endless), 2 * (y || endless)),
};

async function meshGeometry(packed) {
  const { vertex, face } = await unpack(packed);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(Float32Array.from(vertex.values), 3));
  geometry.setIndex(new THREE.BufferAttribute(Uint32Array.from(face.values), 1));
  geometry.computeVertexNormals();
  return geometry;
}

// A skin as it was bound: a geometry, the inverse of each bone's pose, and the bones of each vertex.
async function boundSkin(packed) {
  const { vertex, face, bind_pos, bind_quat, bone_count, bone, weight } = await unpack(packed);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(Float32Array.from(vertex.values), 3));
  geometry.setIndex(new THREE.BufferAttribute(Uint32Array.from(face.values), 1));
  geometry.computeVertexNormals();
  const inverses = Array.from({ length: bind_pos.rows }, (_, i) => {
    const at = new THREE.Vector3(...bind_pos.values.subarray(3 * i, 3 * i + 3));
    const turned = quaternion(bind_quat.values, 4 * i).clone().normalize();
    return new THREE.Matrix4().compose(at, turned, new THREE.Vector3(1, 1, 1)).invert();
  });
  return { geometry, inverses, counts: bone_count.values, bones: bone.values, weights: weight.values };
}

// A skin that bends with bodies, as MuJoCo's does: any number of bones moves a vertex, where
// skinning on the graphics card keeps four.
class Skin {
  constructor(bound, bodies) {
    Object.assign(this, { bound, bodies });
    this.geometry = bound.geometry.clone();
    this.matrices = bodies.map(() => new THREE.Matrix4());
  }

  bend() {
    const { bound: { geometry, inverses, counts, bones, weights }, matrices } = this;
    this.bodies.forEach((body, i) => {
      body.updateMatrix();
      matrices[i].multiplyMatrices(body.matrix, inverses[i]);
    });
    const moves = matrices.map(({ elements }) => elements), move = new Float64Array(12);
    const [from, to] = [geometry, this.geometry].map(({ attributes }) => attributes);
    const [v, n, out, normal] = [from.position.array, from.normal.array, to.position.array, to.normal.array];
    for (let vertex = 0, entry = 0; vertex < counts.length; vertex++) {
      move.fill(0);
      let total = 0;
      for (const stop = entry + counts[vertex]; entry < stop; entry++) {
        const one = moves[bones[entry]], weight = weights[entry];
        total += weight;
        for (let column = 0; column < 4; column++) {
          for (let row = 0; row < 3; row++) move[3 * column + row] += weight * one[4 * column + row];
        }
      }
      const i = 3 * vertex, [x, y, z] = [v[i], v[i + 1], v[i + 2]], [a, b, c] = [n[i], n[i + 1], n[i + 2]];
      for (let row = 0; row < 3; row++) {
        out[i + row] = (move[row] * x + move[3 + row] * y + move[6 + row] * z + move[9 + row]) / total;
        normal[i + row] = move[row] * a + move[3 + row] * b + move[6 + row] * c;
      }
    }
    to.position.needsUpdate = to.normal.needsUpdate = true;
  }
}

class Figure {
  // Parts: {geometries: of each geom, skins: name -> boundSkin}; ghost: {animal, rgba} or nothing.
  constructor(world, parts, ghost) {
    this.root = new THREE.Group();
    this.kinematics = new Kinematics(world);
    this.bodies = world.bodies.map(() => new THREE.Group());
    this.root.add(...this.bodies);
    const shown = ({ bodies: [start, stop] }, body) => start <= body && body < stop;
    const owned = (body) => !ghost || shown(ghost.animal, body);
    this.ground = [];
    this.skins = [];
    world.geoms.forEach((geom, i) => {
      if (!owned(geom.body)) return;
      const material = geom.checker ? checkered(geom.checker) : solid(geom.rgba);
      for (const mesh of this.meshes(parts.geometries[i], ghost, material)) {
        mesh.position.set(...geom.pos);
        mesh.quaternion.copy(quaternion(geom.quat, 0));
        this.bodies[geom.body].add(mesh);
        if (!world.animals.some((animal) => shown(animal, geom.body))) this.ground.push(mesh);
        if (geom.type === "plane" && !geom.size[0]) mesh.userData.period = 2 * (geom.checker?.tile ?? 1);
      }
    });
    for (const { skin, bones, rgba } of world.skins) {
      if (!owned(bones[0])) continue;
      const own = new Skin(parts.skins[skin], bones.map((body) => this.bodies[body]));
      this.skins.push(own);
      for (const mesh of this.meshes(own.geometry, ghost, solid(rgba))) {
        mesh.frustumCulled = false;
        this.root.add(mesh);
      }
    }
  }

  meshes(geometry, ghost, material) {
    if (!ghost) {
      const mesh = new THREE.Mesh(geometry, material);
      mesh.castShadow = mesh.receiveShadow = true;
      return [mesh];
    }
    this.materials ??= translucent(ghost.rgba);
    return this.materials.map((part, order) => {
      const mesh = new THREE.Mesh(geometry, part);
      // After all that is solid: fronts into the depth, then what is seen of them.
      mesh.renderOrder = 1 + order;
      return mesh;
    });
  }

  place(qpos, scenery) {
    this.kinematics.place(qpos, scenery);
    this.bodies.forEach((body, i) => {
      body.position.copy(this.kinematics.positions[i]);
      body.quaternion.copy(this.kinematics.rotations[i]);
    });
    for (const skin of this.skins) skin.bend();
  }
}

// What all figures of a world are made of; planes without an end reach `endless` m.
async function partsOf(world, skins, endless) {
  const geometries = [];
  for (const geom of world.geoms) {
    const geometry = geom.type === "mesh"
      ? await meshGeometry(world.meshes[geom.mesh]) : _geometry[geom.type](geom.size, endless);
    geometries.push(geom.checker ? tiled(geometry, geom.checker.tile) : geometry);
  }
  const bound = {};
  for (const { skin } of world.skins) bound[skin] ??= await boundSkin(skins[skin]);
  return { geometries, skins: bound };
}
