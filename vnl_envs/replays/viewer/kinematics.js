// Forward kinematics, as MuJoCo's mj_kinematics. Quaternions are (w, x, y, z) here.
class Kinematics {
  constructor(world) {
    this.bodies = world.bodies;
    this.positions = world.bodies.map(() => new THREE.Vector3());
    this.rotations = world.bodies.map(() => new THREE.Quaternion());
    const joints = world.bodies.flatMap((body) => body.joints);
    const starts = { free: 3, ball: 0 };
    this.quaternions = joints.filter(({ type }) => type in starts).map(({ type, qpos }) => qpos + starts[type]);
  }

  // Places of all bodies at positions `qpos`; scenery: 7 numbers for each movable piece.
  place(qpos, scenery) {
    const arm = new THREE.Vector3();
    this.bodies.forEach((body, i) => {
      const position = this.positions[i], rotation = this.rotations[i];
      if (i === 0) return;
      if (body.mocap >= 0 && scenery) {
        place(position, rotation, scenery, 7 * body.mocap);
        return;
      }
      const [first] = body.joints;
      if (first?.type === "free") {
        place(position, rotation, qpos, first.qpos);
        return;
      }
      const parent = this.rotations[body.parent];
      position.set(...body.pos).applyQuaternion(parent).add(this.positions[body.parent]);
      rotation.copy(parent).multiply(quaternion(body.quat, 0));
      for (const joint of body.joints) {
        const value = qpos[joint.qpos] - joint.zero;
        if (joint.type === "slide") {
          position.addScaledVector(arm.set(...joint.axis).applyQuaternion(rotation), value);
          continue;
        }
        position.add(arm.set(...joint.pos).applyQuaternion(rotation));
        rotation.multiply(joint.type === "hinge"
          ? _turn.setFromAxisAngle(arm.set(...joint.axis), value) : quaternion(qpos, joint.qpos));
        position.sub(arm.set(...joint.pos).applyQuaternion(rotation));
      }
      rotation.normalize();
    });
  }
}

const _turn = new THREE.Quaternion(), _given = new THREE.Quaternion();

function quaternion(numbers, start) {
  return _given.set(numbers[start + 1], numbers[start + 2], numbers[start + 3], numbers[start]);
}

function place(position, rotation, numbers, start) {
  position.set(numbers[start], numbers[start + 1], numbers[start + 2]);
  rotation.copy(quaternion(numbers, start + 3)).normalize();
}
