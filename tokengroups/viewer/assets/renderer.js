import { byId } from "./dom.js";

const ROW = 512; // splats in a row of their textures
const BATCH = 1024; // splats of an instance; one each would be slow

export class Renderer {
	constructor(canvas) {
		const options = { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" };
		this.gl = canvas.getContext("webgl2", options);
		if (!this.gl) throw new Error("This browser shows no WebGL 2. Update it, or allow hardware acceleration.");
		this.setUp();
	}

	// Again after a lost context.
	setUp() {
		const { gl } = this;
		const deep = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
		Object.assign(this, {
			format: deep ? gl.RGBA16F : gl.RGBA8, // 8 bits would round at every splat
			splatting: this.link("splat"), copying: this.link("copy"),
			textures: {}, buffer: gl.createFramebuffer(), target: null,
		});
		const corners = Uint16Array.from({ length: 6 * BATCH }, (_, i) => 4 * Math.floor(i / 6) + [0, 1, 2, 2, 1, 3][i % 6]);
		gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
		gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
		gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
	}

	load(scene) {
		const { gl } = this, { count, header, harmonics } = scene, degree = header.sh_degree;
		const rows = Math.ceil(count / ROW), groupRows = Math.ceil(header.groups.length / 256);
		if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("The scene is too large; see --max-gaussians.");
		for (const { texture } of Object.values(this.textures)) gl.deleteTexture(texture);
		const integers = [gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT], floats = [gl.RGBA32F, gl.RGBA, gl.FLOAT];
		this.textures = {
			splats: this.table(2 * ROW, rows, integers),
			harmonics: this.table(degree * ROW || 1, degree ? rows : 1, integers),
			order: this.table(1024, Math.ceil(count / 1024), [gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT]),
			matrices: this.table(3 * 256, groupRows, floats),
			tints: this.table(256, groupRows, floats),
		};
		this.fill("splats", scene.words);
		if (degree) this.fill("harmonics", harmonics);
		this.scene = scene;
	}

	link(name) {
		const { gl } = this, program = gl.createProgram();
		for (const [end, kind] of [["vert", gl.VERTEX_SHADER], ["frag", gl.FRAGMENT_SHADER]]) {
			const shader = gl.createShader(kind);
			gl.shaderSource(shader, byId(`${name}.${end}`).textContent);
			gl.compileShader(shader);
			gl.attachShader(program, shader);
		}
		gl.linkProgram(program);
		if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
			const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader)).join("");
			throw new Error(logs || gl.getProgramInfoLog(program));
		}
		return program;
	}

	// Use a program with textures and values, by name; values begin with what follows `uniform` in gl's setter.
	use(program, textures, values) {
		const { gl } = this, place = (name) => gl.getUniformLocation(program, name);
		gl.useProgram(program);
		Object.entries(textures).forEach(([name, { texture }], unit) => {
			gl.activeTexture(gl.TEXTURE0 + unit);
			gl.bindTexture(gl.TEXTURE_2D, texture);
			gl.uniform1i(place(name), unit);
		});
		for (const [name, [kind, ...value]] of Object.entries(values)) gl[`uniform${kind}`](place(name), ...value);
	}

	table(width, height, [inner, format, type]) {
		const { gl } = this, texture = gl.createTexture();
		gl.bindTexture(gl.TEXTURE_2D, texture);
		gl.texStorage2D(gl.TEXTURE_2D, 1, inner, width, height);
		// Integer textures read as zeros with any other filter.
		gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
		gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
		return { texture, width, height, format, type };
	}

	// Replace the first rows of a texture; zeros fill the last one.
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

	// With `detail` below 1 in fewer pixels.
	draw(camera, detail) {
		const { gl, drawn, background, scene: { header } } = this, { fx, fy, cx, cy, rotation, eye, height } = camera;
		if (gl.isContextLost()) return;
		const size = [Math.ceil(camera.width * detail), Math.ceil(height * detail)];
		gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
		if (this.target?.width !== size[0] || this.target.height !== size[1]) {
			gl.deleteTexture(this.target?.texture);
			this.target = this.table(...size, [this.format]);
			gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.target.texture, 0);
		}
		gl.viewport(0, 0, ...size);
		gl.clear(gl.COLOR_BUFFER_BIT);
		gl.enable(gl.BLEND);
		this.use(this.splatting, this.textures, {
			rotation: ["Matrix3fv", true, rotation], eye: ["3fv", eye], size: ["2fv", size],
			focal: ["2f", fx * detail, fy * detail], centre: ["2f", cx * detail, cy * detail],
			scaleUnit: ["1f", header.scale_unit], count: ["1i", drawn], degree: ["1i", header.sh_degree],
		});
		gl.drawElementsInstanced(gl.TRIANGLES, 6 * BATCH, gl.UNSIGNED_SHORT, 0, Math.ceil(drawn / BATCH));
		gl.bindFramebuffer(gl.FRAMEBUFFER, null);
		gl.viewport(0, 0, camera.width, height);
		gl.disable(gl.BLEND);
		const values = { background: ["3fv", background], height: ["1i", height], detail: ["1f", detail] };
		this.use(this.copying, { picture: this.target }, values);
		gl.drawArrays(gl.TRIANGLES, 0, 3);
	}

	// Milliseconds until the GPU has drawn.
	async finished() {
		const { gl } = this, began = performance.now(), fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
		gl.flush();
		while (fence && gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) await new Promise((go) => setTimeout(go, 4));
		gl.deleteSync(fence);
		return performance.now() - began;
	}
}
