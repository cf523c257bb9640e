"""What PyTorch does with a loss: the columns for derivatives, graphs, devices and half precision

A loss is tried on all that it takes: labels, with weights, ignored labels or label smoothing, and
class probabilities. Its values are compared with a plain call and a plain backward pass."""
import warnings
from copy import deepcopy
import torch
from torch import nn,Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from conformance_common import C,Exempt,close,column,else_say,example,gradient,weight

# What is tried

def outputs(row): return example()[0][:, :row.width].clone()

def takes(row, kwargs, y):
    try: row.make(**kwargs)(outputs(row), y)
    except Exception: return False
    return True

def arguments(row):
    "Arguments with the target that goes with each, as far as the loss takes them"
    _,y,t = example()
    more = dict(weight=weight),dict(ignore_index=y[0].item()),dict(label_smoothing=0.2)
    pairs = *((kwargs, y) for kwargs in more),(row.soft, t)
    return [(dict(), y), *(pair for pair in pairs if takes(row, *pair))]

def cases(row, **more):
    "A loss, outputs and target for each"
    return [(row.make(**kwargs, **more), outputs(row), y) for kwargs,y in arguments(row)]

def direction(x): return torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)

# Derivatives

@column('forward-mode derivatives (`forward_ad`, `func.jvp`)')
def forward_mode(row):
    for loss,x,y in cases(row):
        v = direction(x)
        with else_say('not implemented for it'):
            slope = torch.func.jvp(lambda x: loss(x, y), (x,), (v,))[1]
            with forward_ad.dual_level():
                dual = loss(forward_ad.make_dual(x, v), y)
                other = forward_ad.unpack_dual(dual).tangent
        for found in (slope, other): close(found, (gradient(loss, x, y)*v).sum(), 'derivatives')

@column('gradient of each item (`func.vmap`)')
def per_sample(row):
    for loss,x,y in cases(row):
        def cost(x, y): return loss(x[None], y[None])
        kept = [i for i in range(len(x)) if cost(x[i], y[i]).isfinite()]  # torch's: NaN if ignored
        each = torch.stack([gradient(loss, x[i:i+1], y[i:i+1])[0] for i in kept])
        with else_say('cannot be mapped'): found = torch.func.vmap(torch.func.grad(cost))(x, y)
        close(found[kept], each, 'gradients')

@column('vectorised Jacobian (`jacobian(vectorize=True)`)')
def jacobians(row):
    "Of the losses of all items, which are many numbers"
    for loss,x,y in cases(row, reduction='none'):
        def costs(x): return loss(x, y)
        expected = torch.autograd.functional.jacobian(costs, x)  # in a loop
        for mode in ('reverse', 'forward'):
            with else_say(f'not in {mode} mode'): found = torch.autograd.functional.jacobian(
                costs, x, vectorize=True, strategy=f'{mode}-mode')
            close(found, expected, 'derivatives')

@column('second derivatives')
def second_derivatives(row, step=1e-6):
    "Against differences of gradients, in double precision"
    def double(o): return o.double() if isinstance(o, Tensor) and o.is_floating_point() else o
    for kwargs,y in arguments(row):
        loss = row.make(**{name: double(o) for name,o in kwargs.items()})
        x,v,y = double(outputs(row)),double(direction(outputs(row))),double(y)
        assert loss(x, y).dtype == x.dtype, 'float64 outputs become float32'
        expected = (gradient(loss, x + step*v, y) - gradient(loss, x - step*v, y))/(2*step)
        with else_say('none'):
            twice = torch.autograd.functional.hvp(lambda x: loss(x, y), x, v)[1]
            def slopes(x): return torch.func.grad(lambda x: loss(x, y))(x)
            mixed = torch.func.jvp(slopes, (x,), (v,))[1]  # forward over backward
        for found in (twice, mixed): close(found, expected, 'second derivatives', rtol=1e-3)

# Graphs

class Program(nn.Module):
    "A model of nothing but losses: one graph holds all cases"
    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        for i,loss in enumerate(losses):
            if isinstance(loss, nn.Module): self.add_module(f'loss{i}', loss)
    def forward(self, x, targets): return [loss(x, y) for loss,y in zip(self.losses, targets)]

@column('`torch.compile(fullgraph=True)`')
def compiles(row, backend='eager'):
    losses,(x,*_),targets = zip(*cases(row))
    torch.compiler.reset()
    x.requires_grad_()
    with else_say('breaks the graph'):
        values = torch.compile(Program(losses), fullgraph=True, backend=backend)(x, targets)
    for loss,y,value in zip(losses, targets, values):
        close(value, loss(x, y))
        found, = torch.autograd.grad(value, x, retain_graph=True)
        close(found, gradient(loss, x, y), 'gradients')

@column('`torch.export`')
def is_exported(row):
    losses,(x,*_),targets = zip(*cases(row))
    with else_say('cannot be exported'):
        program = torch.export.export(Program(losses), (x, targets))
    x,targets = x.flip(0)*3,tuple(y.roll(1, 0) for y in targets)
    for loss,y,value in zip(losses, targets, program.module()(x, targets)): close(value, loss(x, y))

@column('`torch.jit.trace`, ignored labels')
def is_traced(row):
    "Traced with ignored labels or without, used with and without"
    x,y,_ = example()
    x,ignored = outputs(row),y[0].item()
    try: loss = row.make(ignore_index=ignored)
    except TypeError: loss = row.make()
    with_some,without = y,y.where(y != ignored, (ignored + 1) % C)
    for seen in (with_some, without):
        with warnings.catch_warnings(), else_say('cannot be traced'):
            warnings.simplefilter('ignore')
            traced = torch.jit.trace(lambda x, y: loss(x, y), (x, seen), check_trace=False)
        for other in (with_some.flip(0), without.flip(0)): close(traced(x, other), loss(x, other))

@column('`FakeTensorMode`')
def is_faked(row):
    "A loss that is made inside; there are no values to compare, but shapes and types"
    for kwargs,y in arguments(row):
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with else_say('cannot use fake tensors'), fake as mode:
            loss = row.make(**kwargs)
            x = mode.from_tensor(outputs(row)).requires_grad_()
            value = loss(x, mode.from_tensor(y))
            grad, = torch.autograd.grad(value, x)
        assert value.shape == () and value.dtype == x.dtype, 'wrong shape or type'
        assert grad.shape == x.shape and grad.dtype == x.dtype, 'wrong shape or type'

# Devices and types

def tensors(loss):
    "All tensors in a loss, in whatever way it holds them"
    modules = getattr(loss, 'func', loss).modules()
    held = [o for m in modules for d in (vars(m), m._buffers, m._parameters) for o in d.values()]
    return [o for o in held if isinstance(o, Tensor)]

@column('`copy.deepcopy`')
def copies(row):
    x,y,_ = example()
    x,loss = outputs(row),row.make(weight=weight)
    other,value = deepcopy(loss),loss(x, y)
    close(other(x, y), value)
    for w in tensors(other): w.mul_(3)
    other.reduction = 'sum'
    assert loss.reduction == 'mean', 'the copy shares the reduction'
    close(loss(x, y), value, 'values: the copy shares the weight')

@column('weight moves with the device')
def moves(row):
    loss = row.make(weight=weight)
    assert any(o.shape == (C,) for o in tensors(loss)), 'the weight is nowhere'
    loss.to('meta')
    assert all(o.is_meta for o in tensors(loss)), 'the weight stays behind'
    assert loss(outputs(row).to('meta'), example()[1].to('meta')).is_meta

@column("made under `torch.device('meta')`, then loaded")
def made_on_meta(row):
    x,y,real = outputs(row),example()[1],row.make(weight=weight)
    with torch.device('meta'), else_say('cannot be made'): loss = row.make(weight=torch.ones(C))
    with else_say('cannot be loaded'):
        loss = loss.to_empty(device='cpu')
        loss.load_state_dict(real.state_dict())
    close(loss(x, y), real(x, y))

class NoFloat64(TorchDispatchMode):
    "A device that has no float64, such as Apple's GPUs"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [o for o in tree_leaves(out) if isinstance(o, Tensor)]
        assert all(o.dtype != torch.float64 for o in made), f'makes float64 ({func})'
        return out

@column('no float64 on the way')
def no_float64(row):
    for loss,x,y in cases(row):
        with NoFloat64():
            gradient(loss, x, y)
            if hasattr(loss, 'activation'): loss.decodes(loss.activation(x))

@column('fp16: `GradScaler` sees an overflow')
def overflow_is_seen(row, small=1e-3):
    """A scale that is far too large: steps are left out and the scale falls until the gradient can
    be represented, and the step that is then taken has the direction of the exact gradient.
    Features are small, so that the gradient of the outputs can overflow, but not the head's"""
    x,y,loss = outputs(row)*small,example()[1],row.make()
    head = nn.Linear(row.width, row.width, bias=False)
    with torch.no_grad(): head.weight.copy_(torch.eye(row.width)/small)
    exact = deepcopy(head).double()
    loss(exact(x.double()), y).backward()
    sgd = torch.optim.SGD(head.parameters(), lr=1.)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.**40, backoff_factor=1/8)
    left_out = 0
    for _ in range(20):
        sgd.zero_grad()
        with torch.autocast('cpu', torch.float16): value = loss(head(x), y)
        scaler.scale(value).backward()
        before,scale = head.weight.detach().clone(),scaler.get_scale()
        scaler.step(sgd)
        scaler.update()
        if scaler.get_scale() >= scale: break
        close(head.weight, before, 'weights: an overflow is not seen', atol=0, rtol=0)
        left_out += 1
    assert not torch.equal(head.weight, before), 'no step is taken'
    found,right = (h.weight.grad.flatten().double() for h in (head, exact))
    same = torch.cosine_similarity(found, right, 0)
    assert same > 0.99, f'a step in another direction (cosine {same:.2f})'
    assert left_out, 'an overflow is not seen'

# Classes that are ruled out

exempt = {**dict.fromkeys(('SphericalLoss()', 'BrierLoss()', 'NormRegularizedLoss()',
    'LogitNormLoss()', 'LogitNormLoss(temperature=1.0)', 'Squentropy()', 'CrossEntropy() + SphericalLoss()'), 'no limit there'),
    'ActivePassiveLoss()': 'its limit is reached too slowly to check',
    **dict.fromkeys(('WarpedCrossEntropy', 'BinaryCodeLoss'), 'outputs are not the classes')}

def limit(cost, far=-1e4):
    "The value of `cost(low)` as `low` falls: that far below, or infinity if it still grows there"
    near,farther = cost(far),cost(10*far)
    return near if farther < 1.01*near else torch.full_like(near, torch.inf)

@column('classes ruled out by -inf')
def rules_out(row):
    "What there is at -inf is what there is far below: values, gradients and activations"
    for name,reason in exempt.items():
        if row.name == name or row.name.startswith(f'{name}('): raise Exempt(reason)
    x,y,t = example()
    x,t = outputs(row),t.clone()
    x[:, 0],t[:, 0] = -torch.inf,0
    kept,soft = (row.make(), y.clamp(min=1)),(row.make(**row.soft), t)
    for loss,target in (kept, soft) if takes(row, row.soft, t) else (kept,):
        close(loss(x, target), limit(lambda low: loss(x.clamp(min=low), target)))
        near = gradient(loss, x.clamp(min=-1e4), target)
        close(gradient(loss, x, target), near, 'gradients')
    if hasattr(loss, 'activation'):
        close(loss.activation(x), loss.activation(x.clamp(min=-1e4)), 'activations')
    out = row.make()(x, y*0), limit(lambda low: row.make()(x.clamp(min=low), y*0))
    close(*out, 'cost of a label that is ruled out')
