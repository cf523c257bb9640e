"""An example of each public name for the reference. A test runs them; those in `not_run` need a download or a shell.
`given` is what they start from. A loss that is not here gets an example of its own making."""

given = """
from fastai.vision.all import *
from fastai_losses.all import *
dls = digits_dataloaders(size=8, bs=256)
outputs,labels = torch.randn(64, 10),torch.randint(0, 10, (64,))
"""

examples = {
# losses
'ClassificationLoss': """
class Squared(ClassificationLoss):
    def evidence(self, x): return x.log_softmax(-1)
    def penalty(self, e): return (1 - e.exp())**2
Squared(label_smoothing=0.1)(outputs, labels)
""",
'SoftmaxLoss': """
class Squared(SoftmaxLoss):
    def penalty(self, e): return (1 - e.exp())**2
Squared()(outputs, labels)
""",
'ScoreLoss': """
isinstance(BrierLoss(), ScoreLoss)  # True: it has what losses of the raw outputs share
""",
'OneVsAllLoss': """
isinstance(OneVsAllCrossEntropy(), OneVsAllLoss)  # True: it has what losses with multi-hot targets share
""",
'ClassVectorLoss': """
isinstance(WarpedCrossEntropy(class_vectors(10, 4)), ClassVectorLoss)  # True: it has what losses with class vectors share
""",
'every': """
CrossEntropy().evidence(outputs, every)  # (64, 10): the evidence of all classes
""",
'CrossEntropy': """
loss = CrossEntropy(label_smoothing=0.1)
learn = small_learner(dls, loss_func=loss, metrics=decoded_error_rate())
""",
'GeneralizedCrossEntropy': """
GeneralizedCrossEntropy(0.7)(outputs, labels)
GeneralizedCrossEntropy(0.7, truncate=0.5)(outputs, labels)
""",
'InverseLoss': """
InverseLoss(0.2)(outputs, labels)  # the tuned inverse
""",
'SphericalLoss': """
SphericalLoss()(outputs, labels)
SphericalLoss(probabilities=True)(outputs, labels)  # of the softmax
""",
'BrierLoss': """
BrierLoss(probabilities=True)(outputs, labels)  # squared error of the softmax
""",
'OneVsAllCrossEntropy': """
loss = OneVsAllCrossEntropy(multi_hot=True)
loss(outputs, (torch.rand(64, 10) > 0.8).float())  # several labels for an item, or none
""",
'HingeLoss': """
HingeLoss(margin=1.)(outputs, labels)
HingeLoss(best_other=True)(outputs, labels)
""",
'WarpedCrossEntropy': """
loss = WarpedCrossEntropy(class_vectors(10, 4), scale=10)
learn = small_learner(dls, loss_func=loss, n_out=loss.n_out, metrics=decoded_error_rate())
""",
'BinaryCodeLoss': """
loss = BinaryCodeLoss(class_vectors(10, 5, 'code').sign())  # codewords of -1 and 1
loss(torch.randn(64, loss.n_out), labels)
""",
# unbalanced classes, wrong labels, sums
'class_counts': """
class_counts(dls)  # how many training items each class has
""",
'class_weights': """
loss = CrossEntropy(weight=class_weights(dls))
loss = FocalCrossEntropy(weight=class_weights(dls, 'effective', beta=0.999))
""",
'oversampled': """
learn = small_learner(oversampled(dls), loss_func=CrossEntropy())  # rare classes come as often as common ones
""",
'LogitAdjustedLoss': """
loss = LogitAdjustedLoss.from_dls(dls)
learn = small_learner(dls, loss_func=loss, metrics=[decoded_error_rate(), balanced_error()])
learn.loss_func = LogitAdjustedLoss.from_dls(dls, after=True)  # corrects a model that was trained with cross-entropy
""",
'LDAMLoss': """
loss = LDAMLoss.from_dls(dls, max_margin=3., scale=1.)  # margins of logits; 0.5 and 30 are for cosines
""",
'ScheduleLoss': """
late = ScheduleLoss(truncate=lambda pct: 0.5 if pct > 0.5 else 0.)
learn = small_learner(dls, loss_func=GeneralizedCrossEntropy(0.7), cbs=late)
""",
'LossSum': """
loss = 0.7*CrossEntropy() + 0.3*SphericalLoss()
loss(outputs, labels)
""",
# class vectors
'class_vectors': """
class_vectors(10, 3)           # 10 unit vectors in 3 dimensions, as far apart as they go
class_vectors(10, 5, 'code')   # binary codewords
""",
'separation': """
separation(class_vectors(10, 3))  # 0.404: no two are nearer than 66 degrees
""",
'separation_bound': """
separation_bound(10, 3)
""",
'plot_class_vectors': """
plot_class_vectors(class_vectors(10, 3), labels=range(10))
""",
'class_means': """
means = class_means(dls)  # (10, n): the mean of the inputs of each class; `features=` takes a model
""",
'penultimate': """
learn = small_learner(dls)
features = penultimate(learn.model)  # what its last linear layer is given
means = class_means(dls, features)
""",
'class_vectors_from_means': """
vectors = class_vectors_from_means(class_means(dls), 4)
""",
'assign_class_vectors': """
vectors = assign_class_vectors(class_vectors(10, 3), class_means(dls))
""",
# metrics and callbacks
'decoded_error_rate': """
learn = small_learner(dls, loss_func=SphericalLoss(), metrics=decoded_error_rate())
""",
'decoded_top_k_accuracy': """
learn = small_learner(dls, metrics=decoded_top_k_accuracy(k=3))
""",
'class_vector_error_rate': """
loss = WarpedCrossEntropy(class_vectors(10, 4))
learn = small_learner(dls, loss_func=loss, n_out=4, metrics=class_vector_error_rate())  # another name of decoded_error_rate
""",
'class_vector_accuracy': """
loss = WarpedCrossEntropy(class_vectors(10, 4))
learn = small_learner(dls, loss_func=loss, n_out=4, metrics=class_vector_accuracy())
""",
'ReportScores': """
learn = small_learner(dls, loss_func=BrierLoss(), cbs=ReportScores())
learn.fit(1)  # error rate, negative log-likelihood, Brier score and calibration error
""",
'TrainLossParameters': """
loss = WarpedCrossEntropy(class_vectors(10, 4), scale=10, train_vectors=True)
learn = small_learner(dls, loss_func=loss, n_out=4, cbs=TrainLossParameters())
""",
'RecordOutputs': """
watch = RecordOutputs()
learn = small_learner(dls, cbs=watch)
learn.fit(2)
len(watch.outputs)  # 2: those of the validation set after each epoch
""",
# data and models
'digits_dataloaders': """
dls = digits_dataloaders(size=16, bs=32)
""",
'pets_dataloaders': """
dls = pets_dataloaders(size=224)
dls = pets_dataloaders(size=128, official=True)  # the published split
""",
'dataloaders_from': """
dls = dataloaders_from('pictures')  # a folder with a subfolder for each class
dls = dataloaders_from('reviews.csv', input='text', label='stars')
""",
'small_learner': """
learn = small_learner(dls, loss_func=CrossEntropy(), metrics=decoded_error_rate())
""",
'small_text_learner': """
dls = dataloaders_from('reviews.csv')
learn = small_text_learner(dls, loss_func=CrossEntropy())
""",
'awd_lstm_learner': """
LossComparison(dataloaders_from('reviews.csv'), learner=awd_lstm_learner).fine_tune(1)
""",
'table_learner': """
LossComparison(dataloaders_from('customers.csv'), learner=table_learner).fine_tune(3)
""",
# comparing
'first_losses': """
list(first_losses())  # ['cross-entropy', 'dot product', 'inverse', 'tuned inverse']
""",
'package_losses': """
losses = package_losses(dls.c)  # one of each loss, by name
""",
'LossComparison': """
comparison = LossComparison(dls, learner=small_learner, losses=[CrossEntropy(), InverseLoss(0.2)], seeds=3)
comparison.fine_tune(1, lr=1e-2, progress=False)
print(comparison.verdict())
""",
'ComparisonRecords': """
records = ComparisonRecords.load(comparison.folder)  # of the comparison above
records.table()
""",
'compare_losses': """
compare_losses(data='digits', losses='CrossEntropy,InverseLoss(0.2)', seeds='3')  # as `compare_losses --data digits ...`
""",
'spawn_pool': """
if __name__ == '__main__':  # in a script
    LossComparison(dls, seeds=4).fine_tune(1, executor=spawn_pool(2))
""",
}

for _name in ('decoded_accuracy', 'balanced_error', 'nll_loss', 'brier_loss', 'calibration_error'):
    examples[_name] = f"""
learn = small_learner(dls, loss_func=CrossEntropy(), metrics={_name}())
"""
examples['mean_angle'] = """
loss = WarpedCrossEntropy(class_vectors(10, 4))
learn = small_learner(dls, loss_func=loss, n_out=4, metrics=mean_angle())
"""

not_run = {'pets_dataloaders', 'dataloaders_from', 'small_text_learner', 'awd_lstm_learner', 'table_learner', 'compare_losses', 'spawn_pool'}
