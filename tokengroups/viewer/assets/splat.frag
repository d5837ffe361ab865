#version 300 es
precision highp float;
flat in vec2 at;
flat in vec3 factor;
flat in vec4 color;
out vec4 premultiplied;
void main() {
  vec2 d = gl_FragCoord.xy - at;
  float p = factor.x * d.x + factor.y * d.y, q = factor.z * d.y;
  float alpha = min(0.999, color.a * exp(-0.5 * (p * p + q * q)));
  if (alpha < 1.0 / 255.0) discard;
  premultiplied = vec4(color.rgb * alpha, alpha);
}
