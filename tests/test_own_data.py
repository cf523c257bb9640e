"DataLoaders from a folder or a CSV file: what is understood, what is refused, and what could go wrong in silence"
from pathlib import Path
import numpy as np, pandas as pd
import pytest
from PIL import Image
import fastai_losses.own_data
from fastai_losses.all import *
from fastai_losses.own_data import batch_size, read_table, understand

def image(path, grey=100, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), grey, np.uint8)).save(path)

def folder(root, **counts):
    "A folder with so many images in each subfolder"
    for name,n in counts.items():
        for i in range(n): image(root/name.replace('__', '/')/f'{i:02}.png', i)
    return root

def csv(root, table, name='data.csv'):
    "The path of a CSV file with these columns"
    pd.DataFrame(table).to_csv(root/name, index=False)
    return root/name

def trains(dls, learner, losses=None):
    "Error rates after an epoch with each loss"
    comparison = LossComparison(dls, losses=losses or [CrossEntropy(), InverseLoss()], learner=learner,
                                path=Path(dls.path)/'records')
    table = comparison.fine_tune(1, lr=1e-2, progress=False).table()
    assert (table.status == 'finished').all() and np.isfinite(table.error_rate).all()
    return table

colours = ['red', 'blue', 'green', 'black']
sentences = [f'It was {word} that the {i}th guest came late to the party again' for i in range(20)
             for word in ('good', 'bad')]
names = [f'Mr. Smith the {i}th' for i in range(40)]
numbers,labels = list(range(40)),['yes', 'no']*20

# Folders

def test_folder(tmp_path):
    data = understand(folder(tmp_path, cat=10, dog=15))
    assert str(data) == ("images: 25 items in 2 classes, the rarest cat (10), the commonest dog (15); "
                         "20 train and 5 validate (a random fifth)")
    dls = dataloaders_from(tmp_path)
    assert list(dls.vocab) == ['cat', 'dog'] and dls.one_batch()[0].shape[1:] == (3, 20, 20)
    trains(dls, small_learner)

def test_files_are_sorted_whatever_the_file_system_gives(tmp_path, monkeypatch):
    folder(tmp_path, cat=10, dog=10)
    first = understand(tmp_path)
    some_order = lambda path: list(reversed(sorted(path.rglob('*.png'))))
    monkeypatch.setattr(fastai_losses.own_data, 'get_image_files', some_order)
    again = understand(tmp_path)
    assert list(first.inputs.input) == list(again.inputs.input) == sorted(tmp_path.rglob('*.png'))
    assert (first.valid == again.valid).all()

@pytest.mark.parametrize('held', ('valid', 'val', 'test'))
def test_train_and_valid(tmp_path, held):
    data = understand(folder(tmp_path, train__a=3, train__b=3, **{f'{held}__a': 2, f'{held}__b': 1}))
    assert data.valid.tolist() == [False]*6 + [True]*3 and data.split == f'the folder {held}'

def test_a_class_called_train(tmp_path):
    assert set(understand(folder(tmp_path, train=6, bus=6)).labels) == {'train', 'bus'}

@pytest.mark.parametrize('counts, message', (
    ({}, 'No images in'),
    ({'a': 5}, r'only one class \(a\)'),
    ({'train__a': 5, 'train__b': 5}, 'no valid/, val/ or test/'),
    ({'train__a': 5, 'train__b': 5, 'valid__a': 2, 'valid__c': 2}, '1 class only in the validation set: c'),
    ({'a': 1, 'b': 1}, 'a label of its own'),
    ({'a': 2, 'b': 2}, 'None of the 4 items validates'),
    ({'.': 3}, 'lie in the folder itself'),
))
def test_folders_that_cannot_be_used(tmp_path, counts, message):
    with pytest.raises(ValueError, match=message): understand(folder(tmp_path, **counts))

def test_folder_with_a_csv_file(tmp_path):
    csv(tmp_path, {'a': numbers, 'label': labels})
    with pytest.raises(ValueError, match=r'give .*data\.csv'): understand(tmp_path)
    with pytest.raises(ValueError, match='is a folder'): understand(tmp_path, label='a')
    with pytest.raises(FileNotFoundError, match='No folder or file'): understand(tmp_path/'none')

def test_a_class_with_one_image_trains(tmp_path):
    data = understand(folder(tmp_path, a=10, b=10, c=1))
    assert not data.valid[data.labels == 'c'].any()
    assert data.notes == ('no validation items, so no errors, for 1 class: c',)

def test_folders_without_images_are_named(tmp_path):
    folder(tmp_path, a=10, b=10)
    (tmp_path/'c').mkdir()
    assert understand(tmp_path).notes == ('no images in 1 folder: c',)

def test_what_was_left_out_is_named_where_one_class_is_left(tmp_path):
    folder(tmp_path, a=1, b=10)
    (tmp_path/'a'/'00.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match='only one class .*that cannot be opened: a/00.png.*add items'): understand(tmp_path)

def test_images_that_cannot_be_used_are_named_and_counted(tmp_path):
    folder(tmp_path, a=10, b=10)
    (tmp_path/'a'/'00.png').write_bytes(b'no image')
    jpeg = tmp_path/'b'/'cut.jpg'
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-500])
    Image.open(jpeg).verify()  # which finds nothing
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path/'a'/'deep.png')
    with pytest.warns(UserWarning) as seen: dls = dataloaders_from(tmp_path)
    said = [str(o.message) for o in seen]
    assert 'left out 2 images that cannot be opened: a/00.png, b/cut.jpg' in said
    assert 'left out 1 image with more than 8 bits a pixel: a/deep.png' in said
    assert len(dls.train_ds) + len(dls.valid_ds) == 19

def test_a_small_training_set_has_batches(tmp_path):
    dls = dataloaders_from(folder(tmp_path, a=6, b=6))
    assert dls.train.bs == 2 and len(dls.train) == 5
    assert all(n//batch_size(n) >= 4 for n in range(8, 1000))
    with pytest.raises(ValueError, match='batch size is 64, but there are 10'): dataloaders_from(tmp_path, bs=64)

# CSV files: the kind

@pytest.mark.parametrize('table, kind', (
    ({'file': [f'{i}.jpg' for i in numbers], 'label': labels}, 'images'),
    ({'text': sentences, 'label': labels}, 'text'),
    ({'topic': labels, 'text': sentences}, 'text'),
    ({'title': names, 'label': labels}, 'text'),
    ({'id': numbers, 'text': sentences, 'label': labels}, 'text'),
    ({'影評': [f'第{i}部電影非常好看我喜歡' for i in numbers], 'label': labels}, 'text'),
    ({'age': numbers, 'colour': colours*10, 'label': labels}, 'table'),
    ({'Name': names, 'age': numbers, 'colour': colours*10, 'label': labels}, 'table'),
    ({'age': numbers, 'port': labels}, 'table'),
    ({'text': sentences, 'stars': numbers, 'label': labels}, None),
    ({'name': names, 'age': numbers, 'label': labels}, None),
))
def test_kind(tmp_path, table, kind):
    path = csv(tmp_path, table)
    for o in table.get('file', []): image(tmp_path/o)
    if kind: assert understand(path).kind == kind
    else:
        with pytest.raises(ValueError, match="kind='text' or kind='table'"): understand(path)
        for kind in ('text', 'table'): assert understand(path, kind).kind == kind

def test_label_column(tmp_path):
    titanic = csv(tmp_path, {'survived': ['0', '1']*20, 'age': numbers, 'port': colours*10})
    with pytest.raises(ValueError, match='could be in survived, port.*label='): understand(titanic)
    assert set(understand(titanic, label='survived').labels) == {'0', '1'}
    with pytest.raises(ValueError, match="No column 'sex'. The columns are survived, age, port"):
        understand(titanic, label='sex')
    assert list(understand(titanic, label='port', input='age').inputs) == ['age']
    with pytest.raises(ValueError, match="No column 'sex'"): understand(titanic, input='sex', label='port')
    with pytest.raises(ValueError, match="No kind 'tables'. Expected images or text or table"):
        understand(titanic, 'tables')

def test_is_it_a_regression(tmp_path):
    many = csv(tmp_path, {'size': [1, 2]*2600, 'price': np.arange(5200)//2})
    with pytest.raises(ValueError, match="'price' has 2,600 different numbers: is it a regression"):
        understand(many)
    assert len(set(understand(many, label='price').labels)) == 2600
    named = csv(tmp_path, {'size': [1, 2]*2500, 'label': np.arange(5000)/7})
    with pytest.raises(ValueError, match="5,000 different numbers: is it a regression"): understand(named)
    with pytest.raises(ValueError, match="a label of its own"): understand(named, label='label')

def test_a_column_that_numbers_the_rows_is_left_out_and_named(tmp_path):
    data = understand(csv(tmp_path, {'id': numbers, 'age': numbers, 'label': labels}))
    assert list(data.inputs) == ['age'] and data.notes == ('left out the column id, which only numbers the rows',)
    assert not understand(csv(tmp_path, {'id': numbers, 'age': numbers, 'label': labels}), input='age').notes

def test_an_empty_column_alone(tmp_path):
    path = csv(tmp_path, {'text': ['']*40, 'label': labels})
    with pytest.raises(ValueError, match='text is empty in all rows'): understand(path)

# CSV files: labels and validation

def test_labels_are_read_as_they_stand(tmp_path):
    path = csv(tmp_path, {'a': numbers, 'label': ['NA', 'None', '01', '1']*10})
    assert set(understand(path).labels) == {'NA', 'None', '01', '1'}

def test_whole_numbers_are_classes(tmp_path):
    dls = dataloaders_from(csv(tmp_path, {'a': numbers, 'label': [0, 1]*20}))
    assert dls.c == 2 and list(dls.vocab) == ['0', '1'] and not dls.one_batch()[-1].is_floating_point()

@pytest.mark.parametrize('values', (['True', 'False'], ['1', '0'], ['yes', 'no'], ['valid', 'train']))
def test_is_valid(tmp_path, values):
    marks = [values[0]]*10 + [values[1]]*30
    data = understand(csv(tmp_path, {'a': numbers, 'label': labels, 'is_valid': marks}))
    assert data.valid.tolist() == [True]*10 + [False]*30 and list(data.inputs) == ['a']

@pytest.mark.parametrize('table, message', (
    ({'label': [*labels[:39], '']}, r"1 of 40 rows have no label in 'label' \(line 41\)"),
    ({'label': ['']*40}, '40 of 40 rows have no label'),
    ({'label': ['yes']*40}, 'only one class'),
    ({'label': labels, 'is_valid': [*['True']*39, '']}, "Column 'is_valid' has an empty value"),
    ({'label': labels, 'is_valid': ['False']*40}, 'None of the 40 items validates'),
    ({'label': labels, 'is_valid': ['True']*40}, 'All 40 items validate'),
    ({'label': [*labels[:39], 'new'], 'is_valid': ['no']*30 + ['yes']*10}, 'only in the validation set: new'),
))
def test_labels_that_cannot_be_used(tmp_path, table, message):
    with pytest.raises(ValueError, match=message): understand(csv(tmp_path, {'a': numbers, **table}))

@pytest.mark.parametrize('content, message', (
    (b'', 'cannot be read as a CSV file'), (b'a,label\n', 'has no items'), (b'a,b\n1,2,3\n', 'more values than'),
    (b'a,label\n\xff\xfe,1\n', 'cannot be read as a CSV file'), (b'"a,label\n1,2\n', 'cannot be read|has no items'),
))
def test_files_that_are_no_tables(tmp_path, content, message):
    (tmp_path/'x.csv').write_bytes(content)
    with pytest.raises(ValueError, match=message): understand(tmp_path/'x.csv')

# CSV files: inputs

def test_paths_absolute_and_relative(tmp_path):
    folder(tmp_path/'elsewhere', a=10)
    files = sorted((tmp_path/'elsewhere').rglob('*.png'))
    paths = [str(o) if i%2 else str(o.relative_to(tmp_path)) for i,o in enumerate(files)]
    path = csv(tmp_path, {'file': paths, 'label': ['a', 'b']*5})
    assert list(understand(path).inputs.input) == files
    assert len(dataloaders_from(path).one_batch()) == 2
    lost = csv(tmp_path, {'file': [*paths, 'no.png'], 'label': ['a', 'b']*5 + ['a']})
    with pytest.raises(FileNotFoundError, match="1 of 11 files in column 'file' do not exist: no.png"):
        understand(lost)

def test_missing_texts(tmp_path):
    some = csv(tmp_path, {'text': ['', *sentences[1:]], 'label': labels})
    assert understand(some).notes == ("1 text is empty in 'text'",)
    with pytest.warns(UserWarning, match='is empty'): trains(dataloaders_from(some), small_text_learner)
    none = csv(tmp_path, {'text': ['']*40, 'label': labels})
    with pytest.raises(ValueError, match="'text' is empty in all 40 rows"): understand(none, 'text', 'text')

def test_a_column_called_c_and_one_called_label(tmp_path):
    table = {'c': numbers, 'label': colours*10, 'kind': labels}
    dls = dataloaders_from(csv(tmp_path, table), label='kind')
    assert dls.c == 2 and list(dls.vocab) == ['no', 'yes']
    trains(dls, table_learner)

def test_numbers_that_are_missing(tmp_path):
    marks = ['no']*30 + ['yes']*10
    late = ['1.5']*29 + ['', *['']*5, *['2']*5]
    valid_only = ['1', '2', '4']*10 + ['']*10
    table = {'late': late, 'valid only': valid_only, 'never': ['']*40, 'label': labels, 'is_valid': marks}
    path = csv(tmp_path, table)
    data = understand(path)
    assert list(data.inputs) == ['late', 'late is missing', 'valid only']
    assert (data.inputs['valid only'][30:] == 2).all() and not data.inputs.isna().any().any()
    assert 'left out the column never' in data.notes[0]
    with pytest.warns(UserWarning, match='never'): trains(dataloaders_from(path), table_learner)

def test_what_a_table_leaves_out(tmp_path):
    data = understand(csv(tmp_path, {'id': numbers, 'name': names, 'a': numbers, 'b': colours*10, 'label': labels}))
    assert list(data.inputs) == ['a', 'b'] and 'name' in data.notes[0]
    with pytest.raises(ValueError, match="No column has numbers or repeated values"):
        understand(csv(tmp_path, {'name': names, 'label': labels}), 'table')

def test_separators(tmp_path):
    for sep in ',;\t':
        pd.DataFrame({'a': numbers, 'label': labels}).to_csv(tmp_path/'s.csv', sep=sep, index=False)
        assert list(read_table(tmp_path/'s.csv')) == ['a', 'label']

def test_size_is_for_images(tmp_path):
    with pytest.raises(ValueError, match='size=32 is for images'):
        dataloaders_from(csv(tmp_path, {'a': numbers, 'label': labels}), size=32)
