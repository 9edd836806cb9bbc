from p2p_keras.training.cadence import is_due, next_due


def test_due_at_multiples_but_never_at_the_start():
    assert [step for step in range(13) if is_due(step, 4)] == [4, 8, 12]
    assert not any(is_due(step, 0) for step in range(13))


def test_next_due_is_the_first_due_step_after():
    for every in (1, 3, 7):
        for step in range(30):
            following = next(later for later in range(step + 1, 100) if is_due(later, every))
            assert next_due(step, every) == following
