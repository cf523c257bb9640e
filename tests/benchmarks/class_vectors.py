"""How far apart `class_vectors` places its vectors, beside the best known smallest angles; how long it takes; and 100,000 vectors in 64 dimensions.

Best known angles in degrees: Sloane's tables of spherical codes for n <= 5, and the sharp configurations of Cohn and Kumar (2007)."""
import math,subprocess,sys,time
import pandas as pd
from fastai_losses.class_vectors import *
from memory import high_water

best_known = {(10, 3): 66.147, (24, 3): 43.691, (24, 4): 60, (120, 4): 36, (16, 5): 78.463, (40, 5): 60, (27, 6): 75.522, (72, 6): 60,
    (56, 7): 70.529, (126, 7): 60, (240, 8): 60, (100, 22): 84.784}
unnamed = {(12, 3): 63.435, (20, 3): 47.431, (112, 21): 83.621, (162, 21): 81.787, (275, 22): 80.406, (552, 23): 78.463}

def degrees(cos): return math.degrees(math.acos(cos))

def angles(pairs):
    "One row for each pair (k, n)"
    rows = []
    for (k, n),best in pairs.items():
        start = time.perf_counter()
        v = class_vectors(k, n)
        seconds = time.perf_counter() - start
        angle = degrees(separation(v))
        rows.append({'k': k, 'n': n, 'best known': best, 'reached': angle, 'share': angle/best, 'bound': degrees(separation_bound(k, n)), 'seconds': seconds})
    return pd.DataFrame(rows).set_index(['k', 'n'])

def many(k, n):
    "Seconds and peak MiB of a fresh process that does nothing but make the vectors (Linux)"
    start = time.perf_counter()
    v = class_vectors(k, n)
    seconds = time.perf_counter() - start
    print(seconds, high_water())

def main():
    table = angles(best_known)
    print(table.to_string(float_format='%.3f'))
    print(f"least share of the best known: {table['share'].min():.4f}; longest: {table['seconds'].max():.1f} s\n\nand others:")
    print(angles(unnamed).to_string(float_format='%.3f'))
    k,n = 100_000,64
    seconds,mib = map(float, subprocess.run([sys.executable, __file__, str(k), str(n)], capture_output=True, text=True, check=True).stdout.split())
    print(f'\nk={k}, n={n}: {seconds:.1f} s, {mib:.0f} MiB at the peak with Python and torch, separation {separation(class_vectors(k, n)):.4f}, '
        f'random vectors {separation(class_vectors(k, n, "random")):.4f}, bound {separation_bound(k, n):.4f}')

if __name__ == '__main__':
    if len(sys.argv) > 1: many(*map(int, sys.argv[1:]))
    else: main()
