// The picture: lights, ground, camera.
class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
    this.renderer.shadowMap.enabled = true;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera();
    this.camera.up.set(0, 0, 1);
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.sun = new THREE.DirectionalLight(0xffffff, 2.6);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.set(1024, 1024);
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0xb0aaa2, 2.1), this.sun, this.sun.target);
    this.scene.fog = new THREE.Fog(0xffffff, 1, 2);
    this.focus = new THREE.Vector3();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const chosen = document.documentElement.style.colorScheme;
    const paint = () => this.paint(chosen ? chosen === "dark" : scheme.matches);
    scheme.addEventListener("change", paint);
    paint();
  }

  paint(dark) {
    this.scene.background = new THREE.Color(dark ? 0x20282c : 0xdfe7ec);
    this.scene.fog.color = this.scene.background;
    this.renderer.toneMappingExposure = 1;
    this.changed?.();
  }

  // Look from where the camera of the videos looks. Lengths are in distances of that camera.
  look({ distance, azimuth, elevation, height, fovy }, focus) {
    const [turn, rise] = [azimuth, elevation].map((degrees) => degrees * Math.PI / 180);
    const away = new THREE.Vector3(
      -Math.cos(rise) * Math.cos(turn), -Math.cos(rise) * Math.sin(turn), -Math.sin(rise));
    this.focus.copy(focus);
    this.controls.target.set(focus.x, focus.y, height);
    this.camera.position.copy(this.controls.target).addScaledVector(away, distance);
    this.camera.fov = fovy;
    this.camera.near = distance / 50;
    this.camera.far = distance * 120;
    this.scene.fog.near = distance * 4;
    this.scene.fog.far = distance * 22;
    this.controls.minDistance = distance / 8;
    this.controls.maxDistance = distance * 12;
    Object.assign(this.sun.shadow.camera, {
      left: -2 * distance, right: 2 * distance, top: 2 * distance, bottom: -2 * distance,
      near: distance / 10, far: 12 * distance,
    });
    this.sun.shadow.camera.updateProjectionMatrix();
    this.sun.shadow.normalBias = distance / 400;
    this.reach = distance;
    this.camera.updateProjectionMatrix();
    this.controls.update();
    this.light();
  }

  // Move along with what is looked at.
  follow(focus) {
    const moved = new THREE.Vector3().subVectors(focus, this.focus).setZ(0);
    this.camera.position.add(moved);
    this.controls.target.add(moved);
    this.controls.update();
  }

  light() {
    this.sun.target.position.copy(this.focus).setZ(0);
    this.sun.position.copy(this.sun.target.position)
      .addScaledVector(new THREE.Vector3(-0.2, -0.3, 1).normalize(), 6 * this.reach);
  }

  // Turn by radians and come nearer by a factor, as by keys.
  move(sideways, upwards, nearer) {
    const arm = new THREE.Vector3().subVectors(this.camera.position, this.controls.target);
    const length = arm.length() * nearer;
    const turn = Math.atan2(arm.y, arm.x) + sideways;
    const rise = Math.min(Math.max(Math.asin(arm.z / arm.length()) + upwards, -1.5), 1.5);
    arm.set(Math.cos(rise) * Math.cos(turn), Math.cos(rise) * Math.sin(turn), Math.sin(rise));
    this.camera.position.copy(this.controls.target).addScaledVector(arm, length);
    this.controls.update();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const size = this.renderer.getSize(new THREE.Vector3());
    if (size.x !== width || size.y !== height) {
      this.renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
    }
    this.renderer.render(this.scene, this.camera);
  }
}
