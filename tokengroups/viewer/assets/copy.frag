#version 300 es
precision highp float;
uniform highp sampler2D picture;
uniform vec3 background;
uniform int height;
uniform float detail; // 1 = pixel for pixel
out vec4 color;
void main() {
  vec4 sum = texelFetch(picture, ivec2(detail * vec2(gl_FragCoord.x, float(height) - gl_FragCoord.y)), 0);
  color = vec4(sum.rgb + (1.0 - sum.a) * background, 1.0);
}
