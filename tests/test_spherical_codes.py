"Spherical codes: the binary codes are those of galois, bit for bit, and large sizes stay cheap"
import subprocess,sys
from configparser import ConfigParser
from pathlib import Path
import numpy as np
import pytest
from fastai_losses.class_vectors import class_vectors,separation
from fastai_losses.spherical_codes import (_Field,_conway,_cosets,_generator_polynomial,
                                           _minimal_polynomial,codewords,generator_matrix)

galois = pytest.importorskip('galois')
lengths = range(2, 17)  # m: words of 2^m bits

def coset(i, m): return {i*2**j % (2**m - 1) for j in range(m)}

def designed(size, m):
    "Bits of a message, and designed distance, of the code that `size` asks for"
    roots = set()
    distance = 1
    while 2**m - 1 - len(roots | coset(distance, m)) >= size:
        roots |= coset(distance, m)
        distance += 1
    return 2**m - 1 - len(roots), distance

def by_galois(m, distance):
    "Generator matrix of the extended BCH code"
    field = galois.GF(2**m)
    for f in (field, galois.GF2): f.compile('python-calculate')  # compiling takes longer than this
    code = np.array(galois.BCH(2**m - 1, d=distance, extension_field=field).G, dtype=np.float32)
    return np.concatenate([code, code.sum(1, keepdims=True) % 2], axis=1)

def same_as_galois(m, sizes):
    "Compare the whole generator matrix of each code, and the rows that each size asks for"
    codes = dict(designed(size, m) for size in sizes)
    theirs = {bits: by_galois(m, distance) for bits,distance in codes.items()}
    for bits,code in theirs.items():
        ours = generator_matrix(bits, m)
        assert ours.dtype == np.float32 and np.array_equal(ours, code), (m, bits)
    for size in sizes:
        code = theirs[designed(size, m)[0]]
        assert np.array_equal(generator_matrix(size, m), code[:size]), (m, size)

def askable(m):
    "Sizes of at most 64 GB: more than 2^(size-1) vectors of more than 2^(m-1) numbers of 4 bytes"
    return range(2, min(2**m - 1, 36 - m) + 1)

@pytest.mark.parametrize('m', range(2, 8))
def test_every_code_is_that_of_galois(m): same_as_galois(m, range(2, 2**m))

@pytest.mark.parametrize('m', [8, 9])
def test_codes_that_can_be_asked_for_are_those_of_galois(m): same_as_galois(m, askable(m))

@pytest.mark.slow
@pytest.mark.parametrize('m', [8, 9])
def test_every_longer_code_is_that_of_galois(m): same_as_galois(m, range(2, 2**m))

@pytest.mark.slow
@pytest.mark.parametrize('m', [10, 11, 12])
def test_long_codes_that_can_be_asked_for_are_those_of_galois(m): same_as_galois(m, askable(m))

@pytest.mark.parametrize('m', lengths)
def test_conway_polynomials(m):
    assert _conway[m] == int(galois.conway_poly(2, m)) and set(_conway) == set(lengths)

@pytest.mark.parametrize('m', range(10, 17))
def test_minimal_polynomials_are_those_of_galois(m):
    field = galois.GF(2**m)
    field.compile('python-calculate')
    for exponents in list(_cosets(m))[::2**(m-8)]:  # some of all over the field
        power = field.primitive_element**min(exponents)
        assert _minimal_polynomial(exponents, _Field(m)) == int(power.minimal_poly()), exponents

@pytest.mark.parametrize('m', range(2, 11))
def test_words_are_multiples_of_the_generator_polynomial(m):
    for size in {2, m, m+1, 2**(m-1), 2**m - 2, 2**m - 1} - {1}:
        polynomial = _generator_polynomial(min(size, 2**m - 1), m)
        for row in generator_matrix(min(size, 2**m - 1), m)[:, :-1]:
            word = int(''.join(str(int(bit)) for bit in row), 2)
            while word.bit_length() >= polynomial.bit_length():
                word ^= polynomial << (word.bit_length() - polynomial.bit_length())
            assert word == 0

@pytest.mark.parametrize('k,n', [(1, 1), (2, 1), (3, 2), (4, 2), (8, 3), (5, 3), (16, 4), (17, 5),
                                 (300, 9), (40, 20)])
def test_words_differ_and_are_linear(k, n):
    words = codewords(k, n)
    assert words.shape == (k, n) and len(np.unique(words, axis=0)) == k
    assert set(words.ravel()) <= {0, 1}
    if k & (k-1) == 0 and k > 2:
        sums = (words[:, None] != words[None]).reshape(-1, n)
        assert len(np.unique(sums, axis=0)) == k

@pytest.mark.slow
def test_galois_is_not_needed():
    code = ("import sys; sys.modules['galois'] = None; "
            "from fastai_losses.class_vectors import class_vectors; "
            "print(class_vectors(300, 16, 'code').shape)")
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                         capture_output=True, text=True, check=True)
    assert out.stdout.strip() == 'torch.Size([300, 16])'
    settings = ConfigParser(delimiters='=')
    settings.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
    assert 'galois' not in settings['DEFAULT']['requirements']
    assert 'galois' in settings['DEFAULT']['dev_requirements']

def test_few_classes_in_many_dimensions():
    "Rows are made for the classes alone: neither all words nor an n x n matrix"
    assert class_vectors(10, 2000, 'code').shape == (10, 2000)
    v = class_vectors(5, 2**16, 'code')
    assert separation(v) <= 1e-6
    assert class_vectors(5, 60_000, 'code').unique(dim=0).shape == (5, 60_000)

def test_the_longest_code():
    with pytest.raises(ValueError, match='up to n=65536 dimensions, but this one needs 131072'):
        codewords(5, 100_000)
    assert codewords(2, 100_000).shape == (2, 100_000)  # two classes need no code
