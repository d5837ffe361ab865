// WebGL 2: one call per frame draws all splats into a target of half floats, a second one copies it onto the canvas.
import { byId } from "./dom.js";
import { scaled } from "./maths.js";

const ROW = 512; // splats in a row of their textures, where each has two texels of 4 words
const BATCH = 1024; // splats of one instance: an instance for each would be slow

export class Renderer {
  constructor(canvas) {
    const options = { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" };
    this.gl = canvas.getContext("webgl2", options);
    if (!this.gl) throw new Error("This browser shows no WebGL 2. Update it, or allow hardware acceleration.");
    this.setUp();
  }

  /** Make what lies on the GPU, except for the scene; again after a lost context. */
  setUp() {
    const { gl } = this;
    const deep = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
    this.format = deep ? gl.RGBA16F : gl.RGBA8; // 8 bits would round at every splat
    this.splatting = this.link("splat");
    this.copying = this.link("copy");
    const corners = new Uint16Array(6 * BATCH);
    for (let i = 0; i < BATCH; i++) corners.set([0, 1, 2, 2, 1, 3].map((corner) => 4 * i + corner), 6 * i);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    Object.assign(this, { textures: {}, buffer: gl.createFramebuffer(), target: null });
  }

  load(scene) {
    const { gl } = this, { count, words, harmonics } = scene, rows = Math.ceil(count / ROW);
    if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("The scene is too large; see --max-gaussians.");
    for (const { texture } of Object.values(this.textures)) gl.deleteTexture(texture);
    const integers = [gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT], floats = [gl.RGBA32F, gl.RGBA, gl.FLOAT];
    const degree = scene.header.sh_degree, groupRows = Math.ceil(scene.header.groups.length / 256);
    this.textures = {
      splats: this.table(2 * ROW, rows, integers),
      harmonics: this.table((degree || 1) * ROW, degree ? rows : 1, integers),
      order: this.table(1024, Math.ceil(count / 1024), [gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT]),
      matrices: this.table(3 * 256, groupRows, floats),
      tints: this.table(256, groupRows, floats),
    };
    this.fill("splats", words);
    if (degree) this.fill("harmonics", harmonics);
    Object.assign(this, { scene, drawn: 0 });
  }

  /** Program of the shaders NAME.vert and NAME.frag, elements of the page, and functions that set its uniforms. */
  link(name) {
    const { gl } = this, program = gl.createProgram(), uniforms = {};
    const shaders = [[gl.VERTEX_SHADER, "vert"], [gl.FRAGMENT_SHADER, "frag"]].map(([kind, end]) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, byId(`${name}.${end}`).textContent);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      return shader;
    });
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = shaders.map((shader) => gl.getShaderInfoLog(shader)).join("");
      throw new Error(logs || gl.getProgramInfoLog(program));
    }
    const setters = { [gl.FLOAT]: "uniform1f", [gl.FLOAT_VEC2]: "uniform2fv", [gl.FLOAT_VEC3]: "uniform3fv" };
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name, type } = gl.getActiveUniform(program, i), place = gl.getUniformLocation(program, name);
      const set = setters[type] ?? "uniform1i", rows = type === gl.FLOAT_MAT3;
      uniforms[name] = (value) => (rows ? gl.uniformMatrix3fv(place, true, value) : gl[set](place, value));
    }
    return { program, uniforms };
  }

  /** Use a program with these textures and other uniforms, by their names. */
  use({ program, uniforms }, textures, values) {
    const { gl } = this;
    gl.useProgram(program);
    Object.entries(textures).forEach(([name, { texture }], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      uniforms[name]?.(unit);
    });
    for (const [name, value] of Object.entries(values)) uniforms[name]?.(value);
  }

  /** Texture of zeros, and what `fill` needs to know of it. */
  table(width, height, [inner, format, type]) {
    const { gl } = this, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, inner, width, height);
    // Integer textures are incomplete, and read as zeros, with any other filter.
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return { texture, width, height, format, type };
  }

  /** Replace the first rows of the texture of that name; zeros fill the last one. */
  fill(name, values) {
    const { gl } = this, { texture, width, format, type } = this.textures[name];
    const row = width * (format === gl.RED_INTEGER ? 1 : 4), height = Math.ceil(values.length / row);
    const whole = new values.constructor(row * height);
    whole.set(values);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    if (height) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, format, type, whole);
  }

  setOrder(order, count) {
    this.fill("order", order.subarray(0, count));
    this.drawn = count;
  }

  /** Draw what a camera of the canvas's size sees; below 1, `detail` draws fewer pixels. */
  draw(camera, detail = 1) {
    const { gl, scene: { header } } = this, { fx, fy, cx, cy, rotation, eye } = camera;
    if (gl.isContextLost()) return;
    const size = [camera.width, camera.height].map((side) => Math.ceil(side * detail)), [width, height] = size;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    if (this.target?.width !== width || this.target.height !== height) {
      if (this.target) gl.deleteTexture(this.target.texture);
      this.target = this.table(width, height, [this.format]);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.target.texture, 0);
    }
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    this.use(this.splatting, this.textures, {
      rotation, eye, size, focal: scaled([fx, fy], detail), centre: scaled([cx, cy], detail),
      scaleUnit: header.scale_unit, count: this.drawn, degree: header.sh_degree,
    });
    gl.drawElementsInstanced(gl.TRIANGLES, 6 * BATCH, gl.UNSIGNED_SHORT, 0, Math.ceil(this.drawn / BATCH));
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, camera.width, camera.height);
    gl.disable(gl.BLEND);
    this.use(this.copying, { picture: this.target }, { background: this.background, height: camera.height, detail });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** Milliseconds until the GPU has drawn all that it was told to; drawing itself returns at once. */
  async finished() {
    const { gl } = this, began = performance.now(), fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (fence && gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) await new Promise((go) => setTimeout(go, 4));
    gl.deleteSync(fence);
    return performance.now() - began;
  }
}
