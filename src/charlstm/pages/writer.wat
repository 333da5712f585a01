;; Products of a matrix, one row for each output, and a vector: float32, 16 numbers at a time.
;; `make wasm` assembles it into writer.wasm.
(module
  (import "page" "memory" (memory 0))
  ;; out[j] = sum of rows[j][i] x[i] over i < length, for j < count. Addresses are in bytes; the
  ;; length of a row is a multiple of 16, and at least 16.
  (func (export "multiply")
    (param $rows i32) (param $length i32) (param $count i32) (param $x i32) (param $out i32)
    (local $i i32) (local $end i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (loop $output
      (local.set $a (v128.const f32x4 0 0 0 0))
      (local.set $b (v128.const f32x4 0 0 0 0))
      (local.set $c (v128.const f32x4 0 0 0 0))
      (local.set $d (v128.const f32x4 0 0 0 0))
      (local.set $i (local.get $x))
      (local.set $end (i32.add (local.get $x) (i32.shl (local.get $length) (i32.const 2))))
      (loop $input
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul
          (v128.load (local.get $rows)) (v128.load (local.get $i)))))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul
          (v128.load offset=16 (local.get $rows)) (v128.load offset=16 (local.get $i)))))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul
          (v128.load offset=32 (local.get $rows)) (v128.load offset=32 (local.get $i)))))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul
          (v128.load offset=48 (local.get $rows)) (v128.load offset=48 (local.get $i)))))
        (local.set $rows (i32.add (local.get $rows) (i32.const 64)))
        (local.set $i (i32.add (local.get $i) (i32.const 64)))
        (br_if $input (i32.lt_u (local.get $i) (local.get $end))))
      (local.set $a (f32x4.add (f32x4.add (local.get $a) (local.get $b))
                               (f32x4.add (local.get $c) (local.get $d))))
      (f32.store (local.get $out) (f32.add
        (f32.add (f32x4.extract_lane 0 (local.get $a)) (f32x4.extract_lane 1 (local.get $a)))
        (f32.add (f32x4.extract_lane 2 (local.get $a)) (f32x4.extract_lane 3 (local.get $a)))))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $output (local.get $count)))))
