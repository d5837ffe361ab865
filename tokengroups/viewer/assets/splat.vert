#version 300 es
// The equations and limits are those of tokengroups/render: render/tiles.py has them in words.
precision highp float; precision highp int; precision highp usampler2D; precision highp sampler2D;
uniform usampler2D splats, harmonics, order;
uniform sampler2D matrices, tints; // of groups, in rows of 256
uniform mat3 rotation; // camera from world
uniform vec3 eye;
uniform vec2 focal, centre, size;
uniform float scaleUnit;
uniform int count, degree;
flat out vec2 at;
flat out vec3 factor; // Cholesky factor of the conic
flat out vec4 color;

mat3 turned(uint bits) { // rotation of a packed quaternion
  float q[4];
  int largest = int(bits >> 30u), shift = 20;
  float rest = 1.0;
  for (int k = 0; k < 4; k++) {
    if (k == largest) continue;
    q[k] = (float((bits >> uint(shift)) & 1023u) - 511.0) / (511.0 * sqrt(2.0));
    rest -= q[k] * q[k];
    shift -= 10;
  }
  q[largest] = sqrt(max(rest, 0.0));
  float w = q[0], x = q[1], y = q[2], z = q[3];
  return mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

float byteAt(uvec4 texels[3], int k) { // signed
  uint word = texels[k >> 4][(k >> 2) & 3];
  return float(int(word << uint(24 - 8 * (k & 3))) >> 24);
}

vec3 higherHarmonics(int row, int column, vec3 d) {
  uvec4 texels[3];
  for (int t = 0; t < degree; t++) texels[t] = texelFetch(harmonics, ivec2(column * degree + t, row), 0);
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  float basis[15];
  basis[0] = -0.4886025119029199 * y; basis[1] = 0.4886025119029199 * z; basis[2] = -0.4886025119029199 * x;
  basis[3] = 1.0925484305920792 * x * y; basis[4] = -1.0925484305920792 * y * z;
  basis[5] = 0.31539156525252005 * (2.0 * zz - xx - yy); basis[6] = -1.0925484305920792 * x * z;
  basis[7] = 0.5462742152960396 * (xx - yy); basis[8] = -0.5900435899266435 * y * (3.0 * xx - yy);
  basis[9] = 2.890611442640554 * x * y * z; basis[10] = -0.4570457994644658 * y * (4.0 * zz - xx - yy);
  basis[11] = 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy);
  basis[12] = -0.4570457994644658 * x * (4.0 * zz - xx - yy);
  basis[13] = 1.445305721320277 * z * (xx - yy); basis[14] = -0.5900435899266435 * x * (xx - 3.0 * yy);
  vec3 sum = vec3(0.0);
  for (int k = 0; k < degree * (degree + 2); k++)
    sum += basis[k] * vec3(byteAt(texels, 3 * k), byteAt(texels, 3 * k + 1), byteAt(texels, 3 * k + 2));
  return sum * unpackHalf2x16(texels[degree - 1].w).y / 127.0;
}

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0); // outside, until it is known to be seen
  int rank = gl_InstanceID * 1024 + (gl_VertexID >> 2);
  if (rank >= count) return;
  rank = count - 1 - rank; // far ones first
  int index = int(texelFetch(order, ivec2(rank & 1023, rank >> 10), 0).x), row = index >> 9, column = index & 511;
  uvec4 one = texelFetch(splats, ivec2(2 * column, row), 0), two = texelFetch(splats, ivec2(2 * column + 1, row), 0);
  vec2 sizes = unpackHalf2x16(two.x), rest = unpackHalf2x16(two.y), redGreen = unpackHalf2x16(two.z);
  vec3 base = vec3(redGreen, unpackHalf2x16(two.w).x), scales = scaleUnit * vec3(sizes, rest.x);
  float opacity = rest.y;
  int group = int(two.w >> 16u);
  ivec2 place = ivec2(group & 255, group >> 8), first = ivec2(3 * place.x, place.y);
  vec4 m0 = texelFetch(matrices, first, 0), m1 = texelFetch(matrices, first + ivec2(1, 0), 0);
  vec4 m2 = texelFetch(matrices, first + ivec2(2, 0), 0), tint = texelFetch(tints, place, 0);
  mat3 moved = transpose(mat3(m0.xyz, m1.xyz, m2.xyz)); // rotation and scale of the group
  vec3 world = moved * uintBitsToFloat(one.xyz) + vec3(m0.w, m1.w, m2.w), point = rotation * (world - eye);
  if (!(point.z >= 0.01)) return;

  mat3 axes = rotation * moved * turned(one.w);
  axes = mat3(axes[0] * scales.x, axes[1] * scales.y, axes[2] * scales.z);
  vec2 margin = 0.15 * size / focal, slope = focal / point.z; // 0.3 of half the field of view beyond the picture
  vec2 ratio = clamp(point.xy / point.z, -centre / focal - margin, (size - centre) / focal + margin);
  vec3 a = slope.x * (vec3(axes[0].x, axes[1].x, axes[2].x) - ratio.x * vec3(axes[0].z, axes[1].z, axes[2].z));
  vec3 b = slope.y * (vec3(axes[0].y, axes[1].y, axes[2].y) - ratio.y * vec3(axes[0].z, axes[1].z, axes[2].z));
  vec3 area = cross(a, b);
  float xx = dot(a, a), yy = dot(b, b), xy = dot(a, b);
  float determinant = dot(area, area) + 0.3 * (xx + yy + 0.3);
  if (!(determinant <= 1e30)) return;
  xx += 0.3; yy += 0.3;
  at = focal * point.xy / point.z + centre;
  float reach = sqrt(2.0 * log(max(255.0 * opacity, 1.0)));
  vec2 extent = reach * sqrt(vec2(xx, yy));
  if (any(lessThan(at + extent, vec2(0.0))) || any(greaterThan(at - extent, size))) return;
  factor.x = sqrt(yy / determinant);
  factor.y = -factor.x * xy / yy;
  factor.z = inversesqrt(yy);

  color = vec4(base, opacity);
  vec3 direction = normalize((world - eye) * moved); // in the group's own frame
  if (degree > 0) color.rgb += higherHarmonics(row, column, direction);
  color.rgb = mix(max(color.rgb, 0.0), tint.rgb, tint.a);
  // A parallelogram around the ellipse in which alpha is at least 1 / 255, and a little more.
  vec2 corner = (reach * 1.02 + 0.01) * vec2((gl_VertexID & 1) * 2 - 1, (gl_VertexID & 2) - 1);
  vec2 offset = vec2(sqrt(xx) * corner.x, (xy * corner.x + sqrt(determinant) * corner.y) / sqrt(xx));
  gl_Position = vec4(2.0 * (at + offset) / size - 1.0, 0.0, 1.0); // rows of the target run downwards
}
