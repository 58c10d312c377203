/* What becomes of numbers between products. `stacks.h` includes this once for registers of eight, and
   once for registers of sixteen where products take sixteen outputs: the same numbers, bit for bit.

   FOR_LANES and what is defined with it say for which, and are gone behind it; all numbers of channels
   are multiples of BLOCK. */

enum { IN_LANES(PARTS) = BLOCK / LANES };

/* What sums of products are, in a layer's units. */
FOR_LANES INLINED VECTOR IN_LANES(outputs)(const Dense *d, const int32_t *sums, int64_t n)
{
    return MULTIPLIED_AND_ADDED(NUMBERS_OF(sums + n), LOADED(d->scales + n), LOADED(d->biases + n));
}

/* `caezip.blocks.activation`. */
FOR_LANES INLINED VECTOR IN_LANES(activation)(VECTOR x)
{
    return LARGER(x, MULTIPLIED(x, ALL(0.125f)));
}

/* The levels in which a layer sees `values`. */
FOR_LANES static inline void IN_LANES(to_levels)(const Dense *d, const float *values, int64_t count,
                                                 uint8_t *levels)
{
    for (int64_t i = 0; i < count; i += BLOCK) {
        VECTOR some[IN_LANES(PARTS)];
        for (int32_t part = 0; part < IN_LANES(PARTS); part++)
            some[part] = LOADED(values + i + LANES * part);
        WRITE_LEVELS(d, some, levels + i);
    }
}

/* Of sums [cells, outputs] the outputs, those of a cell `apart` from those of the next. */
FOR_LANES static inline void IN_LANES(write_outputs)(const Dense *d, const int32_t *sums,
                                                     int32_t cells, float *values, int64_t apart)
{
    for (int32_t k = 0; k < cells; k++)
        for (int32_t n = 0; n < d->outputs; n += LANES)
            STORE(values + k * apart + n, IN_LANES(outputs)(d, sums + k * d->outputs, n));
}

/* The same, added to values [cells, outputs]. */
FOR_LANES static inline void IN_LANES(add_outputs)(const Dense *d, const int32_t *sums,
                                                   int32_t cells, float *values)
{
    for (int32_t k = 0; k < cells; k++)
        for (int32_t n = 0; n < d->outputs; n += LANES) {
            float *to = values + (int64_t)k * d->outputs + n;
            STORE(to, ADDED(LOADED(to), IN_LANES(outputs)(d, sums + k * d->outputs, n)));
        }
}

/* Of sums [cells, outputs] what the layer behind an activation sees. */
FOR_LANES static inline void IN_LANES(activate)(const Dense *d, const int32_t *sums, int32_t cells,
                                                const Dense *behind, uint8_t *levels)
{
    for (int32_t k = 0; k < cells; k++, sums += d->outputs, levels += d->outputs)
        for (int32_t n = 0; n < d->outputs; n += BLOCK) {
            VECTOR some[IN_LANES(PARTS)];
            for (int32_t part = 0; part < IN_LANES(PARTS); part++)
                some[part] = IN_LANES(activation)(IN_LANES(outputs)(d, sums, n + LANES * part));
            WRITE_LEVELS(behind, some, levels + n);
        }
}

/* Values in the levels that a block's 3x3 sees. */
FOR_LANES INLINED VECTOR IN_LANES(in_levels)(const Block *b, VECTOR values)
{
    VECTOR level = ROUNDED(MULTIPLIED(values, ALL(b->levels_per_unit)));
    return SMALLER(LARGER(level, ALL(b->lowest)), ALL(b->highest));
}

/* A cell as a block's 3x3 sees it: of sums of what is mixed in, or of the values themselves. */
FOR_LANES static inline void IN_LANES(read_sums)(const Block *b, const int32_t *sums, float *levels)
{
    for (int32_t n = 0; n < b->mixed; n += LANES)
        STORE(levels + n, IN_LANES(in_levels)(
                              b, IN_LANES(activation)(IN_LANES(outputs)(&b->mix_in, sums, n))));
}

FOR_LANES static inline void IN_LANES(read_values)(const Block *b, const float *values,
                                                   int64_t count, float *levels)
{
    for (int64_t i = 0; i < count; i += LANES)
        STORE(levels + i, IN_LANES(in_levels)(b, LOADED(values + i)));
}

/* What a block's 3x3 makes of three rows in `ACROSS` cells, LANES channels of them. */
FOR_LANES INLINED void IN_LANES(mix_some)(const Block *b, const float *const *rows, int64_t place,
                                          int32_t n, VECTOR *sums)
{
    int32_t channels = b->mixed;
    const float *kernel = b->kernel + n;
    for (int32_t k = 0; k < ACROSS; k++)
        sums[k] = ALL(0);
    for (int32_t row = 0; row < 3; row++, kernel += 3 * channels) {
        const float *levels = rows[row] + place * channels + n;
        VECTOR columns[ACROSS + 2];
        for (int32_t k = 0; k < ACROSS + 2; k++)
            columns[k] = LOADED(levels + k * channels);
        for (int32_t tap = 0; tap < 3; tap++) {
            VECTOR weight = LOADED(kernel + tap * channels);
            for (int32_t k = 0; k < ACROSS; k++)
                sums[k] = MULTIPLIED_AND_ADDED(columns[k + tap], weight, sums[k]);
        }
    }
    VECTOR scale = LOADED(b->scales + n), bias = LOADED(b->biases + n);
    for (int32_t k = 0; k < ACROSS; k++)
        sums[k] = MULTIPLIED_AND_ADDED(sums[k], scale, bias);
}

/* The same of a row, in the levels that the layer behind it sees. */
FOR_LANES static inline void IN_LANES(mix_row)(const Block *b, const float *const *rows,
                                               int32_t width, uint8_t *levels)
{
    const Dense *behind = b->has_mixing ? &b->mix_out : &b->expand;
    for (int32_t place = 0; place < width; place += ACROSS)
        for (int32_t n = 0; n < b->mixed; n += BLOCK) {
            VECTOR sums[IN_LANES(PARTS)][ACROSS];
            for (int32_t part = 0; part < IN_LANES(PARTS); part++)
                IN_LANES(mix_some)(b, rows, place, n + LANES * part, sums[part]);
            for (int32_t k = 0; k < ACROSS; k++) {
                VECTOR some[IN_LANES(PARTS)];
                for (int32_t part = 0; part < IN_LANES(PARTS); part++)
                    some[part] = sums[part][k];
                WRITE_LEVELS(behind, some, levels + (int64_t)(place + k) * b->mixed + n);
            }
        }
}

#undef FOR_LANES
#undef IN_LANES
#undef LANES
#undef VECTOR
#undef ALL
#undef LOADED
#undef STORE
#undef NUMBERS_OF
#undef ADDED
#undef MULTIPLIED
#undef MULTIPLIED_AND_ADDED
#undef LARGER
#undef SMALLER
#undef ROUNDED
#undef WRITE_LEVELS
